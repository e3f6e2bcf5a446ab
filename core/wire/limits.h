/// Upper bounds of what travels. Decoding refuses more; whoever builds a message keeps within them.
#pragma once

#include <cstddef>

namespace covey::wire {

inline constexpr std::size_t kNameBytesMax = 128;       ///< names of devices, tasks, methods, processors
inline constexpr std::size_t kFileNameBytesMax = 255;   ///< of one file
inline constexpr std::size_t kModelFilesMax = 512;      ///< files of a base model
inline constexpr std::size_t kLayoutBytesMax = 131072;  ///< canonical text of an adapter layout
inline constexpr std::size_t kPlanBytesMax = 262144;    ///< an encoded RoundPlan
inline constexpr std::size_t kRosterChangesMax = 1024;  ///< of one epoch
inline constexpr std::size_t kRosterEpochBytesMax = 131072;
inline constexpr std::size_t kRosterEpochsMax = 1024;    ///< in one reply
inline constexpr std::size_t kManifestChunksMax = 8192;  ///< 2 GiB of kChunkBytes
inline constexpr std::size_t kEndpointBytesMax = 255;    ///< text of one endpoint
inline constexpr std::size_t kNoticeBytesMax = 1024;     ///< an encoded EndpointNotice
inline constexpr std::size_t kErrorBytesMax = 512;
inline constexpr std::size_t kVersionsMax = 16;
inline constexpr std::size_t kSecureDevicesMax = 1280;  ///< of one session: their list fits one frame

}  // namespace covey::wire
