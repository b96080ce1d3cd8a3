/* Owns nothing: writes files. Threads: any. */
#include "worker/sandbox/accounts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/file.h"

#define ACCOUNTS_NOBODY    65534
#define ACCOUNTS_HOSTS_MAX ((size_t)1 << 20)

static struct error *accounts_put(int dir_fd, const char *name, const struct buf *text)
{
	_cleanup_fd_ int fd =
		openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return error_errno(errno, "make %s", name);
	return file_write_all(fd, text->data, text->len);
}

/* What programs expect on any system (LSB names root, bin and daemon), by Debian's
 * numbers. */
static const struct {
	const char *name;
	unsigned int id;
} accounts_common[] = {{"daemon", 1}, {"bin", 2}};

static void accounts_passwd(unsigned int uid, unsigned int gid, struct buf *out)
{
	buf_printf(out, "root:x:0:%u:root:" ACCOUNTS_HOME ":/bin/sh\n", uid ? 0 : gid);
	if (uid && uid != ACCOUNTS_NOBODY)
		buf_printf(out, ACCOUNTS_NAME ":x:%u:%u::" ACCOUNTS_HOME ":/bin/sh\n",
			   uid, gid);
	for (size_t i = 0; i < ARRAY_SIZE(accounts_common); i++) {
		if (uid != accounts_common[i].id)
			buf_printf(out,
				   "%s:x:%u:%u::" ACCOUNTS_HOME ":/usr/sbin/nologin\n",
				   accounts_common[i].name, accounts_common[i].id,
				   accounts_common[i].id);
	}
	buf_printf(out, "nobody:x:%u:%u:nobody:" ACCOUNTS_HOME ":/bin/sh\n",
		   ACCOUNTS_NOBODY, uid == ACCOUNTS_NOBODY ? gid : ACCOUNTS_NOBODY);
}

static void accounts_group(unsigned int gid, struct buf *out)
{
	buf_add_string(out, "root:x:0:\n");
	if (gid && gid != ACCOUNTS_NOBODY)
		buf_printf(out, ACCOUNTS_NAME ":x:%u:\n", gid);
	for (size_t i = 0; i < ARRAY_SIZE(accounts_common); i++) {
		if (gid != accounts_common[i].id)
			buf_printf(out, "%s:x:%u:\n", accounts_common[i].name,
				   accounts_common[i].id);
	}
	buf_printf(out, "nogroup:x:%u:\n", ACCOUNTS_NOBODY);
}

static void accounts_hosts(bool with_network, struct buf *out)
{
	_cleanup_error_ struct error *none = NULL;

	buf_add_string(out, "127.0.0.1\tlocalhost " ACCOUNTS_HOSTNAME "\n"
			    "::1\tlocalhost ip6-localhost ip6-loopback\n");
	/* names that only the worker's machine knows are part of its network */
	if (with_network)
		none = file_read_all(AT_FDCWD, "/etc/hosts", ACCOUNTS_HOSTS_MAX, out);
}

struct error *accounts_write(const char *dir, unsigned int uid, unsigned int gid,
			     bool with_network)
{
	_cleanup_buf_ struct buf passwd = BUF_INIT;
	_cleanup_buf_ struct buf group = BUF_INIT;
	_cleanup_buf_ struct buf hosts = BUF_INIT;
	_cleanup_fd_ int fd = -1;
	struct error *err = NULL;

	if (mkdir(dir, 0755) < 0)
		return error_errno(errno, "make directory %s", dir);
	accounts_passwd(uid, gid, &passwd);
	accounts_group(gid, &group);
	accounts_hosts(with_network, &hosts);
	err = file_open_dir(AT_FDCWD, dir, &fd);
	if (!err)
		err = accounts_put(fd, "passwd", &passwd);
	if (!err)
		err = accounts_put(fd, "group", &group);
	if (!err)
		err = accounts_put(fd, "hosts", &hosts);
	return error_wrap(err, "in %s", dir);
}
