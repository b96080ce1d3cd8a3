# lazyroot_grpc: gRPC core, as static archives where the system has them. As shared objects
# it is 55 files, and loading them is most of what a short command costs (7 of 10 ms).
# The C++ library comes along: nothing else uses it. OpenSSL, zlib and the C library stay
# shared. Sanitized builds keep gRPC shared: the thread sanitizer tells code that is not
# instrumented from ours by its shared object.
include(CheckCSourceCompiles)

# grpc.pc names libre2, but not what an archive of it needs in turn.
pkg_check_modules(RE2 QUIET re2)
set(names ${GRPC_STATIC_LIBRARIES} ${RE2_STATIC_LIBRARIES})
list(REMOVE_DUPLICATES names)
set(archives)
foreach(name ${names})
	if(name MATCHES "^(grpc|gpr|upb.*|re2|cares|address_sorting|utf8_.*|absl_.*)$")
		find_library(lazyroot_grpc_${name} lib${name}.a)
		if(lazyroot_grpc_${name})
			list(APPEND archives ${lazyroot_grpc_${name}})
			continue()
		endif()
	endif()
	list(APPEND archives ${name})
endforeach()
set(archives -Wl,--start-group ${archives} -Wl,--end-group
	-Wl,-Bstatic -lstdc++ -Wl,-Bdynamic -static-libgcc m)

if(NOT LAZYROOT_SANITIZE)
	set(CMAKE_REQUIRED_INCLUDES ${GRPC_INCLUDE_DIRS})
	set(CMAKE_REQUIRED_LIBRARIES ${archives} Threads::Threads)
	check_c_source_compiles("#include <grpc/grpc.h>
		int main(void) { grpc_init(); return !grpc_insecure_credentials_create(); }"
		LAZYROOT_GRPC_ARCHIVES)
	unset(CMAKE_REQUIRED_INCLUDES)
	unset(CMAKE_REQUIRED_LIBRARIES)
endif()

add_library(lazyroot_grpc INTERFACE)
target_include_directories(lazyroot_grpc INTERFACE ${GRPC_INCLUDE_DIRS})
if(LAZYROOT_GRPC_ARCHIVES AND NOT LAZYROOT_SANITIZE)
	target_link_libraries(lazyroot_grpc INTERFACE ${archives})
else()
	target_link_libraries(lazyroot_grpc INTERFACE PkgConfig::GRPC)
endif()
