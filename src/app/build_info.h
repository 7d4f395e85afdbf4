// Which source this program was built from.
#pragma once

namespace spate::app {

// Abbreviated, "-dirty" behind it where files were changed; "unknown" outside a git checkout.
const char* build_commit();

}  // namespace spate::app
