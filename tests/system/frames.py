"""zstd frames, made and undone by the library itself, or put together by hand."""
import ctypes

ZSTD = ctypes.CDLL("libzstd.so.1")
for name, types in (("compressBound", [ctypes.c_size_t]),
                    ("compress", [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p,
                                  ctypes.c_size_t, ctypes.c_int]),
                    ("decompress", [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p,
                                    ctypes.c_size_t])):
    getattr(ZSTD, f"ZSTD_{name}").argtypes = types
    getattr(ZSTD, f"ZSTD_{name}").restype = ctypes.c_size_t
BLOCK = 128 << 10  # bytes that a block may come to


def compress(content, level=3):
    """One frame."""
    out = ctypes.create_string_buffer(ZSTD.ZSTD_compressBound(len(content)))
    n = ZSTD.ZSTD_compress(out, len(out), content, len(content), level)
    assert not ZSTD.ZSTD_isError(n)
    return out.raw[:n]


def decompress(frames, size):
    """All frames, which come to so many bytes at most."""
    out = ctypes.create_string_buffer(size + 1)
    n = ZSTD.ZSTD_decompress(out, len(out), frames, len(frames))
    assert not ZSTD.ZSTD_isError(n)
    return out.raw[:n]


def repeated(n_blocks, window_log=20, is_whole=True):
    """A frame that says nothing of its size: a byte repeated BLOCK times n_blocks, four bytes a
    block."""
    def block(is_last):
        return (BLOCK << 3 | 1 << 1 | is_last).to_bytes(3, "little") + b"b"

    return (b"\x28\xb5\x2f\xfd\0" + bytes([window_log - 10 << 3]) + block(0) * (n_blocks - 1)
            + block(int(is_whole)))


def skipped(content):
    """A frame that stands for nothing."""
    return b"\x50\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
