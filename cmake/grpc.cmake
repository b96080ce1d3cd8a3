# lazyroot_grpc: gRPC core, as static archives where the system has them. As shared objects
# it is 55 files, and loading them is most of what a short command costs (7 of 10 ms).
# OpenSSL, zlib and the C and C++ libraries stay shared. Sanitized builds keep it shared: the
# thread sanitizer tells code that is not instrumented from ours by its shared object.
add_library(lazyroot_grpc INTERFACE)
target_include_directories(lazyroot_grpc INTERFACE ${GRPC_INCLUDE_DIRS})
set(lazyroot_grpc_libraries)
foreach(name ${GRPC_STATIC_LIBRARIES})
	if(NOT LAZYROOT_SANITIZE AND name MATCHES "^(grpc|gpr|upb|re2|cares|address_sorting|absl_.*)$")
		find_library(lazyroot_grpc_${name} lib${name}.a)
		if(lazyroot_grpc_${name})
			list(APPEND lazyroot_grpc_libraries ${lazyroot_grpc_${name}})
			continue()
		endif()
	endif()
	list(APPEND lazyroot_grpc_libraries ${name})
endforeach()
target_link_libraries(lazyroot_grpc INTERFACE
	-Wl,--start-group ${lazyroot_grpc_libraries} -Wl,--end-group stdc++ m)
