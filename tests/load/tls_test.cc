// The client over TLS, against a server with a certificate of its own making.
#include <arpa/inet.h>
#include <cstdio>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <memory>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "load/fake_server.h"
#include "load/load_run.h"
#include "load/load_summary.h"
#include "support/test_data.h"

namespace spate::load {
namespace {

using ::testing::HasSubstr;

template <auto free_it>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free_it(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;

// Good for 127.0.0.1, signed by itself.
Certificate make_certificate(EVP_PKEY* key) {
  Certificate certificate(X509_new());
  X509* x = certificate.get();
  X509_set_version(x, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
  X509_gmtime_adj(X509_getm_notBefore(x), -3600);
  X509_gmtime_adj(X509_getm_notAfter(x), 86400);
  X509_set_pubkey(x, key);
  const auto* name = reinterpret_cast<const unsigned char*>("spate test");
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, name, -1, -1, 0);
  X509_set_issuer_name(x, X509_get_subject_name(x));
  const std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>> address(
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1"));
  X509_add_ext(x, address.get(), -1);
  SPATE_CHECK(X509_sign(x, key, EVP_sha256()) > 0);
  return certificate;
}

// Answers one connection after the other with a completion of two tokens.
class TlsServer {
 public:
  explicit TlsServer(const std::string& certificate_file) : context_(SSL_CTX_new(TLS_server_method())) {
    const Key key(EVP_EC_gen("P-256"));
    const Certificate certificate = make_certificate(key.get());
    SSL_CTX_use_certificate(context_.get(), certificate.get());
    SSL_CTX_use_PrivateKey(context_.get(), key.get());
    std::FILE* file = std::fopen(certificate_file.c_str(), "w");
    PEM_write_X509(file, certificate.get());
    std::fclose(file);
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    SPATE_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listener_, 16) == 0 &&
                getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    url_ = fmt::format("https://127.0.0.1:{}", ntohs(address.sin_port));
    thread_ = std::thread([this] { serve(); });
  }
  ~TlsServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }

  const std::string& url() const { return url_; }

 private:
  void serve() {
    for (int fd; (fd = accept(listener_, nullptr, nullptr)) >= 0; close(fd)) {
      const std::unique_ptr<SSL, Free<SSL_free>> tls(SSL_new(context_.get()));
      SSL_set_fd(tls.get(), fd);
      if (SSL_accept(tls.get()) != 1) continue;
      std::string received;
      char buffer[4096];
      // The body is one object of JSON and has no other brace before its end but that of "stream_options".
      while (!received.ends_with("}") || received.find("ignore_eos") == std::string::npos) {
        const int n = SSL_read(tls.get(), buffer, sizeof buffer);
        if (n <= 0) break;
        received.append(buffer, static_cast<size_t>(n));
      }
      for (const std::string& piece : spate::testing::fake_completion(2, 5).pieces)
        SSL_write(tls.get(), piece.data(), static_cast<int>(piece.size()));
      SSL_shutdown(tls.get());
    }
  }

  const std::unique_ptr<SSL_CTX, Free<SSL_CTX_free>> context_;
  int listener_ = -1;
  std::string url_;
  std::thread thread_;
};

LevelSummary run(const TlsServer& server, const HttpClientOptions& options) {
  const auto client = HttpClient::create(Url::parse(server.url()).value(), options).value();
  return summarise(run_level(*client, "/v1/completions", Workload({}), {.n_requests = 2}, [](const LevelProgress&) {
                     return true;
                   }).value());
}

TEST(LoadTls, CertificateIsChecked) {
  const spate::testing::TemporaryFolder folder;
  const TlsServer server(folder.path("certificate.pem"));
  const LevelSummary trusted = run(server, {.ca_file = folder.path("certificate.pem")});
  EXPECT_EQ(trusted.n_ok, 2);
  EXPECT_EQ(trusted.output_tokens, 4);
  EXPECT_EQ(run(server, {.verify = false}).n_ok, 2);
  const LevelSummary unknown = run(server, {});
  EXPECT_EQ(unknown.n_ok, 0);
  ASSERT_TRUE(unknown.failures.contains("connect"));
  EXPECT_EQ(unknown.failures.at("connect").n, 2);
  EXPECT_THAT(unknown.failures.at("connect").example, HasSubstr("certificate verify failed"));
}

}  // namespace
}  // namespace spate::load
