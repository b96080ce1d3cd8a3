#!/bin/sh
# Compares proto/ with the published definitions of the same services.
#
# usage: proto_descriptors.sh BUILD_DIR [PROTO_ROUNDTRIP]
#
# The published ones come from Python packages, pinned here, installed into a virtual
# environment below BUILD_DIR which is kept for the next run. buildgrid-common carries the
# Remote Execution API and the worker API; it is only read, never imported, hence neither
# its dependencies nor the Python version it asks for are needed.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
	echo "usage: proto_descriptors.sh BUILD_DIR [PROTO_ROUNDTRIP]" >&2
	exit 2
fi

here=$(cd "$(dirname "$0")" && pwd)
venv=$1/proto-venv
needed="protobuf==7.36.2 googleapis-common-protos==1.76.0 buildgrid-common==0.8.0
	grpcio-health-checking==1.85.1 grpcio-reflection==1.85.1"

if [ "$(cat "$venv/installed" 2>/dev/null)" != "$needed" ]; then
	rm -rf "$venv"
	mkdir -p "$1"
	"${PYTHON:-python3}" -m venv "$venv"
	# shellcheck disable=SC2086 # a list of words
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
		--ignore-requires-python $needed
	echo "$needed" >"$venv/installed"
fi

packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
exec "$venv/bin/python" "$here/proto_descriptors.py" "$here/../../proto" "$packages" \
	${2:+"$2"}
