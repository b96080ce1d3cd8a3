/*
 * All messages lazyroot exchanges with others, in one header. The prefixes are the
 * c_package options of the .proto files: Reapi__, Bytestream__, Longrunning__,
 * Rpcstatus__, Bots__, Buildbarn__, Semver__, Asset__, Logstream__, Health__,
 * Reflection__ (and ReflectionAlpha__), Pb__ for the well-known types, Lazyroot__ for our
 * own.
 *
 * Strings are const char *, so a literal or somebody else's string can be put in a
 * message. Decode only with an allocator which has a limit, and remember that strings end
 * at the first NUL byte: what must be checked in full is checked on the wire bytes.
 */
#ifndef LAZYROOT_PROTO_API_H
#define LAZYROOT_PROTO_API_H

#include "build/bazel/remote/asset/v1/remote_asset.pb-c.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb-c.h"
#include "build/bazel/remote/logstream/v1/remote_logstream.pb-c.h"
#include "build/bazel/semver/semver.pb-c.h"
#include "buildbarn/remoteworker/remoteworker.pb-c.h"
#include "google/bytestream/bytestream.pb-c.h"
#include "google/devtools/remoteworkers/v1test2/bots.pb-c.h"
#include "google/devtools/remoteworkers/v1test2/worker.pb-c.h"
#include "google/longrunning/operations.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/empty.pb-c.h"
#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "grpc/reflection/v1alpha/reflection.pb-c.h"
#include "lazyroot/v1/queue.pb-c.h"
#include "lazyroot/v1/report.pb-c.h"

/* All files of proto/ as an encoded FileDescriptorSet. */
extern const unsigned char proto_descriptors[];
extern const size_t proto_descriptors_len;

#endif
