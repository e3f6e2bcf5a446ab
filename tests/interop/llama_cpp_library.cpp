#include "interop/llama_cpp_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "support/support.h"

namespace covey::interop {
namespace {

#if defined(__x86_64__)
constexpr const char* kPlatform = "linux-x64";
#else
constexpr const char* kPlatform = "linux-arm64";
#endif

/// The package's folder of shared libraries, or empty.
std::string libraries_folder() {
  return node_modules() + "/@node-llama-cpp/" + kPlatform + "/bins/" + kPlatform;
}

std::unique_ptr<Library> open_library(const std::string& prefix) {
  const std::string folder = libraries_folder();
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || name.find(".so") == std::string::npos) continue;
    void* const handle = dlopen(entry.path().c_str(), RTLD_NOW | RTLD_GLOBAL);
    REQUIRE_MESSAGE(handle != nullptr, entry.path().string());
    return std::make_unique<Library>(handle);
  }
  std::cout << "SKIPPED: " << folder << " holds no " << prefix << "; tests/run.sh --interop installs it\n";
  return nullptr;
}

}  // namespace

std::string node_modules() {
  const char* modules = std::getenv("COVEY_NODE_MODULES");
  return modules != nullptr ? modules : test::source_dir() + "/tests/interop/node_modules";
}

bool is_installed() {
  std::error_code error;
  if (std::filesystem::is_directory(libraries_folder(), error)) return true;
  std::cout << "SKIPPED: node-llama-cpp is not in " << node_modules() << "; tests/run.sh --interop installs it\n";
  return false;
}

void* Library::symbol(const char* name) const {
  return dlsym(handle_, name);
}

std::unique_ptr<Library> ggml_base() {
  return open_library("libggml-base.");
}

std::unique_ptr<Library> llama() {
  // The order of their dependencies; the last handle sees the symbols of the others.
  if (!ggml_base() || !open_library("libggml.")) return nullptr;
  return open_library("libllama.");
}

}  // namespace covey::interop
