/// llama.cpp's shared libraries as npm's node-llama-cpp brings them, opened at run time: a test-only judge, never
/// linked.
#pragma once

#include <memory>
#include <string>

namespace covey::interop {

/// An opened shared library; stays open until the process ends (llama.cpp registers things globally).
class Library {
 public:
  explicit Library(void* handle) : handle_(handle) {}
  /// nullptr where the library has no such function.
  [[nodiscard]] void* symbol(const char* name) const;

 private:
  void* handle_;
};

/// The folder of installed packages: COVEY_NODE_MODULES, else tests/interop/node_modules.
std::string node_modules();
/// Whether node-llama-cpp lies there; says SKIPPED where not.
bool is_installed();

/// libggml-base / libllama of the installed package; nullptr, and a line "SKIPPED ...", where it is not installed
/// (tests/run.sh --interop installs it).
std::unique_ptr<Library> ggml_base();
std::unique_ptr<Library> llama();

}  // namespace covey::interop
