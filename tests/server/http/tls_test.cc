// HTTPS, with a certificate made here.
#include <cstdio>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <unistd.h>

#include "server/http/http_fixture.h"

namespace spate::http {
namespace {

using testing::HttpClient;
using testing::request_text;

// A key, a certificate that it signed itself, and the files of both.
class SelfSigned {
 public:
  SelfSigned() {
    std::string pattern = (std::filesystem::temp_directory_path() / "spate-tls-XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME* name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"), -1, -1,
                               0);
    X509_set_issuer_name(certificate, name);
    EXPECT_GT(X509_sign(certificate, key, EVP_sha256()), 0);
    std::FILE* file = std::fopen(key_file().c_str(), "w");
    PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
    file = std::fopen(certificate_file().c_str(), "w");
    PEM_write_X509(file, certificate);
    std::fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }
  ~SelfSigned() { std::filesystem::remove_all(folder_); }

  std::string key_file() const { return folder_ / "key.pem"; }
  std::string certificate_file() const { return folder_ / "certificate.pem"; }

 private:
  std::filesystem::path folder_;
};

// The key once more beside it, encrypted. Returns its file.
std::string write_locked_key(const std::string& key_file) {
  std::FILE* file = std::fopen(key_file.c_str(), "r");
  EVP_PKEY* key = PEM_read_PrivateKey(file, nullptr, nullptr, nullptr);
  std::fclose(file);
  EXPECT_NE(key, nullptr);
  const std::string locked = key_file + ".locked";
  file = std::fopen(locked.c_str(), "w");
  EXPECT_EQ(PEM_write_PrivateKey(file, key, EVP_aes_128_cbc(), reinterpret_cast<const unsigned char*>("secret"), 6,
                                 nullptr, nullptr),
            1);
  std::fclose(file);
  EVP_PKEY_free(key);
  return locked;
}

class HttpTls : public testing::HttpFixture {
 protected:
  HttpTls() { options.tls = {.certificate_file = certificate.certificate_file(), .key_file = certificate.key_file()}; }
  SelfSigned certificate;
};

TEST_F(HttpTls, RequestsAndStreams) {
  start();
  HttpClient client(server->port(), {.tls = true});
  for (int i = 0; i < 2; ++i) {
    client.send(request_text("/echo", "[1]"));
    EXPECT_EQ(client.response().body, "[1]");
  }
  client.send(request_text("/park"));
  const ExchangePtr exchange = parked.take();
  exchange->begin_events();
  exchange->event("x");
  EXPECT_EQ(client.head().status, 200);
  EXPECT_EQ(client.chunk(), "data: x\n\n");
  exchange->end_events();
  EXPECT_EQ(client.chunk(), "");
  client.send(request_text("/hello", {}, "Connection: close\r\n"));
  EXPECT_EQ(client.response().body, "hello");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpTls, ClientThatGoes_IsNoticed) {
  start();
  HttpClient client(server->port(), {.tls = true});
  client.send(request_text("/park"));
  const ExchangePtr exchange = parked.take();
  testing::Mailbox<int> closed;
  exchange->on_close([&closed] { closed.put(1); });
  client.close();
  EXPECT_EQ(closed.take(), 1);
}

TEST_F(HttpTls, PlainHttp_IsNotAnswered) {
  options.header_time = std::chrono::milliseconds(500);
  start();
  HttpClient client = connect();
  client.send(request_text("/hello"));
  EXPECT_THAT(client.read_to_end(), ::testing::Not(::testing::HasSubstr("HTTP/1.1")));
}

TEST_F(HttpTls, FilesThatAreNone_AreErrorsThatNameThem) {
  const SelfSigned other;
  const std::string key = certificate.key_file(), chain = certificate.certificate_file();
  const std::string locked = write_locked_key(key);
  struct Case {
    TlsOptions tls;
    ErrorCode code;
    std::string part;
  };
  for (const Case& given : {Case{{chain, "/nonexistent.pem"}, ErrorCode::kIo, "/nonexistent.pem: No such file"},
                            Case{{"/nonexistent.pem", key}, ErrorCode::kIo, "/nonexistent.pem: No such file"},
                            Case{{chain, "/tmp"}, ErrorCode::kIo, "/tmp: Is a directory"},
                            Case{{chain, chain}, ErrorCode::kBadFile, chain + ": no private key in PEM"},
                            Case{{chain, locked}, ErrorCode::kBadFile, "without a passphrase"},
                            Case{{key, key}, ErrorCode::kBadFile, key + ": no certificate in PEM"},
                            Case{{chain, other.key_file()},
                                 ErrorCode::kUsage,
                                 other.key_file() + ": not the key of the certificate " + chain},
                            Case{{chain, ""}, ErrorCode::kUsage, "both"}}) {
    options.tls = given.tls;
    const auto started = HttpServer::start(options, routes);
    ASSERT_FALSE(started.ok()) << given.part;
    EXPECT_EQ(started.error().code, given.code) << given.part;
    EXPECT_THAT(started.error().message, ::testing::HasSubstr(given.part));
  }
}

}  // namespace
}  // namespace spate::http
