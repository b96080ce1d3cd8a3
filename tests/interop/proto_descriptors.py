#!/usr/bin/env python3
"""Compares proto/ with published descriptors, our generated C with Python on the wire.

usage: proto_descriptors.py PROTO_DIR PUBLIC_DIR [ROUNDTRIP]

PUBLIC_DIR is a directory of installed Python packages; their *_pb2.py files are not
imported but searched for the serialised descriptor they carry, so neither their
dependencies nor the Python version they want matter. ROUNDTRIP is the program built from
proto_roundtrip.c.
"""

import ast
import os
import random
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

FIELD = descriptor_pb2.FieldDescriptorProto
REAPI = "build.bazel.remote.execution.v2."
BOTS = "google.devtools.remoteworkers.v1test2."

# Our files without a published counterpart in those packages.
OWN = {"lazyroot/v1/queue.proto", "lazyroot/v1/report.proto", "buildbarn/remoteworker/remoteworker.proto"}

# Which installed package is the authority for which of our files.
SOURCES = (
    ("grpc/health/", "grpc_health/"),
    ("grpc/reflection/", "grpc_reflection/"),
    ("google/protobuf/", "google/protobuf/"),
    ("google/rpc/", "google/rpc/"),
    ("", "buildgrid/common/protos/"),
)

# Ours that no package has -> the one that is the same in all but the last part of its
# package's name.
TWINS = {"grpc/reflection/v1/reflection.proto": "grpc/reflection/v1alpha/reflection.proto"}

# Published members of messages, enums and services of ours that we leave out on purpose.
# Anything else missing is a difference: it may be something new we should know.
OMITTED = {
    "field " + REAPI + "CacheCapabilities.rep_max_cdc_params",
    "method " + BOTS + "Bots.PostBotEventTemp",
    "method grpc.health.v1.Health.List",
    "field google.rpc.BadRequest.FieldViolation.reason",
    "field google.rpc.BadRequest.FieldViolation.localized_message",
}

# Messages that are newer than those packages -> the published one with the same fields, which
# each is to follow; and the methods that take them.
NEWER = {
    REAPI + "GetChunkMappingRequest": REAPI + "SplitBlobRequest",
    REAPI + "GetChunkMappingResponse": REAPI + "SplitBlobResponse",
    REAPI + "RegisterChunkMappingRequest": REAPI + "SpliceBlobRequest",
    REAPI + "RegisterChunkMappingResponse": REAPI + "SpliceBlobResponse",
}
NEWER_METHODS = {
    "method %sContentAddressableStorage.%sChunkMapping" % (REAPI, verb):
        (".%s%sChunkMappingRequest" % (REAPI, verb), ".%s%sChunkMappingResponse" % (REAPI, verb),
         client, server)
    for verb, client, server in (("Get", False, True), ("Register", True, False))}

passed = failed = 0


def check(good, what):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAILED:", what)


# ---- where descriptors come from ---------------------------------------------


def include_dir():
    """The directory in which protobuf-c keeps protobuf-c.proto."""
    run = subprocess.run(
        ["pkg-config", "--variable=includedir", "libprotobuf-c"],
        check=True, capture_output=True, text=True)
    return run.stdout.strip()


def compile_ours(proto_dir):
    """Our files as protoc-c, the compiler of the build, understands them."""
    files = []
    for where, _, names in os.walk(proto_dir):
        files += [os.path.relpath(os.path.join(where, n), proto_dir)
                  for n in names if n.endswith(".proto")]
    files = sorted(f for f in files if not f.startswith("fallback" + os.sep))
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "ours")
        subprocess.run(
            ["protoc-c", "-I.", "-I" + include_dir(), "-Ifallback",
             "--descriptor_set_out=" + out, *files], check=True, cwd=proto_dir)
        found = descriptor_pb2.FileDescriptorSet()
        with open(out, "rb") as f:
            found.ParseFromString(f.read())
    return {f.name: f for f in found.file}


def read_pb2(path):
    """The serialised descriptor inside a generated Python file."""
    with open(path, encoding="utf-8") as f:
        tree = ast.parse(f.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and \
                getattr(node.func, "attr", "") == "AddSerializedFile":
            found = descriptor_pb2.FileDescriptorProto()
            found.ParseFromString(node.args[0].value)
            return found
    raise SystemExit("no descriptor in " + path)


def twin_of(file, name):
    """A file as it would be under its twin's name and package."""
    old, new = (os.path.basename(os.path.dirname(n)) for n in (file.name, name))
    text = text_format.MessageToString(file).replace("." + old, "." + new)
    return text_format.Parse(text.replace("/%s/" % old, "/%s/" % new),
                             descriptor_pb2.FileDescriptorProto())


def read_public(public_dir, names):
    """The published counterparts of our files, by the same names."""
    found = {}
    for name in names:
        published = TWINS.get(name, name)
        for start, package in SOURCES:
            if published.startswith(start):
                tail = published[:-len(".proto")] + "_pb2.py"
                tail = tail[len(start):] if start else tail
                found[name] = read_pb2(os.path.join(public_dir, package, tail))
                found[name].name = published
                break
        if published != name:
            found[name] = twin_of(found[name], name)
    return found


# ---- comparing ---------------------------------------------------------------


def flatten_field(message, field):
    """All of a field that shows on the wire or in the generated code."""
    oneof = None
    if field.HasField("oneof_index"):
        # A proto3 `optional` appears here as a oneof of one, just as we write it.
        oneof = message.oneof_decl[field.oneof_index].name
    packable = field.label == FIELD.LABEL_REPEATED and field.type not in (
        FIELD.TYPE_STRING, FIELD.TYPE_BYTES, FIELD.TYPE_MESSAGE)
    packed = packable and (field.options.packed or not field.options.HasField("packed"))
    return (field.number, field.type, field.type_name, field.label, oneof, packed)


def flatten_message(out, prefix, message):
    full = prefix + message.name
    out["message " + full] = message.options.map_entry
    for field in message.field:
        out["field %s.%s" % (full, field.name)] = flatten_field(message, field)
    for enum in message.enum_type:
        flatten_enum(out, full + ".", enum)
    for nested in message.nested_type:
        flatten_message(out, full + ".", nested)


def flatten_enum(out, prefix, enum):
    out["enum " + prefix + enum.name] = True
    for value in enum.value:
        out["value %s%s.%s" % (prefix, enum.name, value.name)] = value.number


def flatten(files):
    """{kind and full name: all that must be equal} of everything in the files."""
    out = {}
    for file in files:
        prefix = file.package + "."
        out["syntax " + file.name] = file.syntax
        for message in file.message_type:
            flatten_message(out, prefix, message)
        for enum in file.enum_type:
            flatten_enum(out, prefix, enum)
        for service in file.service:
            out["service " + prefix + service.name] = True
            for m in service.method:
                out["method %s%s.%s" % (prefix, service.name, m.name)] = (
                    m.input_type, m.output_type, m.client_streaming, m.server_streaming)
    return out


def with_newer(public):
    """What is published, and what is to be as some of it."""
    found = dict(public) | NEWER_METHODS
    for name, twin in NEWER.items():
        for key, value in public.items():
            kind, full = key.split(" ", 1)
            if full == twin or full.startswith(twin + "."):
                found[kind + " " + name + full[len(twin):]] = value
    return found


def owner_kind(key):
    """What a member belongs to, or None for a thing of its own."""
    kind, name = key.split(" ", 1)
    owner = {"field": "message", "value": "enum", "method": "service"}.get(kind)
    return owner and owner + " " + name.rsplit(".", 1)[0]


def differences(ours, public):
    """What of ours is not published, or otherwise; published members we do not know."""
    wrong = ["%s: ours %r, published %r" % (k, v, public.get(k))
             for k, v in ours.items() if public.get(k) != v]
    wrong += ["%s: published %r, unknown to us" % (k, v)
              for k, v in public.items()
              if owner_kind(k) in ours and k not in ours and k not in OMITTED]
    return wrong


def all_messages(messages):
    for message in messages:
        yield message
        yield from all_messages(message.nested_type)


def check_rules(files):
    """The style our files promise: a C prefix each, no annotations, no `optional`."""
    for file in files:
        check(not any(d.startswith("google/api/") for d in file.dependency),
              file.name + " imports annotations")
        # The option of protobuf-c is field 1019; this Python does not know it by name.
        check(b"\xda\x3f" in file.options.SerializeToString(),
              file.name + " has no prefix")
        check(not any(f.proto3_optional for m in all_messages(file.message_type)
                      for f in m.field), file.name + " uses optional")


def check_published(ours, public):
    wrong = differences(ours, public)
    for name in wrong:
        check(False, name)
    for name in set(ours) - {w.split(":")[0] for w in wrong}:
        check(True, name)
    for name in OMITTED:
        check(name in public and name not in ours, "no longer an omission: " + name)


# ---- can it fail? ------------------------------------------------------------


def find_message(files, name):
    return next(m for f in files for m in f.message_type if m.name == name)


def find_field(files, message, name):
    return next(f for f in find_message(files, message).field if f.name == name)


def find_method(files, name):
    return next(m for f in files for s in f.service for m in s.method if m.name == name)


def set_to(pick, attribute, value):
    return lambda files: setattr(pick(files), attribute, value)


def digest_size(files):
    return find_field(files, "Digest", "size_bytes")


def blake3(files):
    return find_message(files, "DigestFunction").enum_type[0].value[9]


def drop_oneof(files):
    find_field(files, "Operation", "error").ClearField("oneof_index")


def drop_field(files):
    del find_message(files, "Action").field[-1]


def rename_package(files):
    next(f for f in files if f.package == "google.rpc").package = "google.rpcx"


def unpack(files):
    find_field(files, "CacheCapabilities", "supported_compressors").options.packed = False


MUTATIONS = {
    "number": set_to(digest_size, "number", 3),
    "type": set_to(digest_size, "type", FIELD.TYPE_SINT64),
    "field name": set_to(digest_size, "name", "size"),
    "label": set_to(digest_size, "label", FIELD.LABEL_REPEATED),
    "message type": set_to(lambda f: find_field(f, "FileNode", "digest"), "type_name",
                           "." + REAPI + "LogFile"),
    "message name": set_to(lambda f: find_message(f, "Tree"), "name", "Forest"),
    "map": set_to(lambda f: find_message(f, "ExecuteResponse").nested_type[0].options,
                  "map_entry", False),
    "enum number": set_to(blake3, "number", 19),
    "enum name": set_to(blake3, "name", "BLAKE2"),
    "method name": set_to(lambda f: find_method(f, "GetTree"), "name", "GetTrees"),
    "streaming": set_to(lambda f: find_method(f, "Read"), "server_streaming", False),
    "method type": set_to(lambda f: find_method(f, "Execute"), "input_type",
                          "." + REAPI + "Action"),
    "oneof": drop_oneof,
    "missing field": drop_field,
    "package": rename_package,
    "packing": unpack,
}


def check_mutations(ours, public):
    for name, mutate in MUTATIONS.items():
        copies = []
        for file in ours:
            copies.append(descriptor_pb2.FileDescriptorProto())
            copies[-1].CopyFrom(file)
        mutate(copies)
        check(differences(flatten(copies), public), "altered %s not noticed" % name)


# ---- the wire ----------------------------------------------------------------


def load_pool(files):
    """Descriptors usable for messages. Imports beyond our own set only bring options."""
    pool = descriptor_pool.DescriptorPool()
    waiting = dict(files)
    while waiting:
        ready = next(n for n, f in waiting.items()
                     if not any(d in waiting for d in f.dependency))
        file = descriptor_pb2.FileDescriptorProto()
        file.CopyFrom(waiting.pop(ready))
        file.ClearField("options")
        keep = [d for d in file.dependency if d in files]
        del file.dependency[:]
        file.dependency.extend(keep)
        file.ClearField("public_dependency")
        for method in (m for s in file.service for m in s.method):
            method.ClearField("options")
        pool.Add(file)
    return pool


NUMBERS = {
    FIELD.TYPE_INT64: (0, 1, -1, 2**63 - 1, -2**63),
    FIELD.TYPE_INT32: (0, 1, -1, 2**31 - 1, -2**31),
    FIELD.TYPE_UINT32: (0, 1, 0o755, 2**32 - 1),
    FIELD.TYPE_UINT64: (0, 1, 2**64 - 1),
    FIELD.TYPE_BOOL: (False, True),
}
STRINGS = ("", "a", "../../x", "d\u00e9j\u00e0 \u2603", "x" * 300)


def random_scalar(rnd, field):
    if field.type == FIELD.TYPE_ENUM:
        return rnd.choice([v.number for v in field.enum_type.values] + [12345])
    if field.type == FIELD.TYPE_STRING:
        return rnd.choice(STRINGS)
    if field.type == FIELD.TYPE_BYTES:
        return rnd.randbytes(rnd.choice((0, 1, 7, 2000)))
    return rnd.choice(NUMBERS[field.type])


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def fill_field(rnd, message, field, known, depth):
    scalar = not field.is_repeated and not field.message_type
    target = None if scalar else getattr(message, field.name)
    if is_map(field):
        value = field.message_type.fields_by_name["value"]
        for key in STRINGS[:3]:
            if value.message_type:
                fill(rnd, target[key], known, depth + 1)
            else:
                target[key] = random_scalar(rnd, value)
    elif field.is_repeated:
        for _ in range(rnd.choice((0, 1, 3))):
            if field.message_type:
                fill(rnd, target.add(), known, depth + 1)
            else:
                target.append(random_scalar(rnd, field))
    elif field.message_type:
        target.SetInParent()
        fill(rnd, target, known, depth + 1)
    else:
        setattr(message, field.name, random_scalar(rnd, field))


def fill(rnd, message, known, depth=0):
    """Random content, only in the fields named in `known` unless that is None."""
    for field in message.DESCRIPTOR.fields:
        ours = known is None or "field " + field.full_name in known
        if ours and depth < 6 and rnd.random() < 0.85:
            fill_field(rnd, message, field, known, depth)


def repack(program, name, data, strict=True):
    return subprocess.run([program] + ["--strict"] * strict, capture_output=True,
                          input=name.encode() + b"\n" + data)


def has_map(descriptor):
    return any(f.message_type and (is_map(f) or has_map(f.message_type))
               for f in descriptor.fields)


def check_type(program, cls, known, tries=12):
    """Python encodes by the published definition, C decodes and encodes again."""
    name = cls.DESCRIPTOR.full_name
    rnd = random.Random(name)
    for i in range(tries):
        message = cls()
        fill(rnd, message, known)
        data = message.SerializeToString(deterministic=True)
        run = repack(program, name, data)
        good = run.returncode == 0 and cls.FromString(run.stdout) == message
        # Without maps there is one canonical form, and digests depend on it.
        if good and not has_map(cls.DESCRIPTOR):
            good = run.stdout == data
        check(good, "%s try %d: status %d" % (name, i, run.returncode))
        cut = data[:rnd.randrange(len(data))] if data else b""
        check(repack(program, name, cut).returncode in (0, 1), name + " cut short")


def check_unknown(program, pool):
    """Fields we leave out survive, and --strict is really able to object to them."""
    name = REAPI + "CacheCapabilities"
    cls = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    message = cls(max_batch_total_size_bytes=4 << 20)
    message.rep_max_cdc_params.min_chunk_size_bytes = 64
    data = message.SerializeToString()
    run = repack(program, name, data, strict=False)
    check(run.returncode == 0 and cls.FromString(run.stdout) == message, "unknown kept")
    check(repack(program, name, data).returncode == 3, "unknown field refused")
    check(repack(program, REAPI + "Nothing", data).returncode == 2, "unknown type")


def message_names(flat):
    """Types of ours with at least one field, without map entries."""
    used = {k.split(" ", 1)[1].rsplit(".", 1)[0] for k in flat if k.startswith("field ")}
    return sorted(n for n in used if not flat["message " + n] and n not in NEWER)


def check_wire(program, ours, public):
    known = flatten(ours.values())
    outside = dict(public)
    for path in OWN:
        outside[path] = ours[path]
    pool = load_pool(outside)
    for name in message_names(known):
        cls = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        check_type(program, cls, known)
    check_unknown(program, pool)


def main():
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    ours = compile_ours(sys.argv[1])
    published = [name for name in ours if name not in OWN]
    public = read_public(sys.argv[2], published)
    shared = [ours[name] for name in published]
    check_rules(ours.values())
    flat_public = with_newer(flatten(public.values()))
    check_published(flatten(shared), flat_public)
    check_mutations(shared, flat_public)
    if len(sys.argv) == 4:
        check_wire(sys.argv[3], ours, public)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
