/* The resource names of ByteStream, as both of its directions take them. No state. */
#include "server/bytestream.h"
#include "server/resource_name.h"
#include "server/service.h"

struct error *bytestream_check_name(struct rpc_in *in, const struct server *server,
				    const char *text, bool is_upload,
				    struct resource_name *out)
{
	_cleanup_buf_ struct buf instance = BUF_INIT;
	struct error *err = resource_name_parse(text, out);
	struct slice header;

	if (err)
		return err;
	if (rpc_header_get(in, "resource-name", &header) && !slice_is(header, text))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "header resource-name is not \"%.200s\"", text);
	if (out->is_upload != is_upload)
		return error_new(ERROR_INVALID_ARGUMENT, "resource name \"%.200s\": %s",
				 text,
				 is_upload ? "uploads/UUID/blobs/HASH/SIZE was expected"
					   : "blobs/HASH/SIZE was expected");
	if (out->is_zstd) {
		err = server_check_compressor(server, REAPI__COMPRESSOR__VALUE__ZSTD);
		if (err)
			return err;
	}
	buf_add(&instance, out->instance.data, out->instance.len);
	return server_check_instance(server, in, buf_string(&instance));
}
