# Cross-build for Arm64 with Debian's compiler and :arm64 libraries (tests/install_arm64.sh); tests run under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# No package or library of the host: what is not multi-arch lies in the folder where install_arm64.sh unpacks it.
set(CMAKE_IGNORE_PREFIX_PATH /usr/lib/x86_64-linux-gnu)
set(CMAKE_IGNORE_PATH /usr/lib/x86_64-linux-gnu /lib/x86_64-linux-gnu)
set(PKG_CONFIG_EXECUTABLE /usr/bin/pkg-config CACHE FILEPATH "")
set(ENV{PKG_CONFIG_LIBDIR}
    /usr/lib/aarch64-linux-gnu/pkgconfig:/opt/covey-arm64/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig)
find_program(COVEY_QEMU NAMES qemu-aarch64 qemu-aarch64-static)
if(COVEY_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${COVEY_QEMU})  # libc6:arm64 lies in the system itself: no -L
endif()
