"""Certificates made for a test by openssl(1), and files of them that are replaced as those who
renew certificates do it."""
import pathlib
import shutil
import subprocess

import grpc


class Authority:
    """A private CA in a folder of its own; issue() makes NAME.pem and NAME.key there."""

    def __init__(self, directory, name):
        self.dir = pathlib.Path(directory) / name
        self.dir.mkdir()
        self.ca = self.dir / "ca.pem"
        self.openssl("req", "-x509", *self.new_key("ca"), "-out", self.ca, "-subj", f"/CN={name}")

    def openssl(self, *args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)

    def new_key(self, name):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-keyout", self.dir / f"{name}.key")

    def issue(self, name, subject=None, names=("DNS:localhost",)):
        """(certificate, key) of a subject (default: /CN=NAME) and its alternative names."""
        request, names_file = self.dir / f"{name}.csr", self.dir / f"{name}.san"
        names_file.write_text("subjectAltName=" + ",".join(names) + "\n")
        self.openssl("req", *self.new_key(name), "-out", request, "-subj", subject or f"/CN={name}")
        self.openssl("x509", "-req", "-CA", self.ca, "-CAkey", self.dir / "ca.key",
                     "-CAcreateserial", "-days", "2", "-in", request, "-extfile", names_file,
                     "-out", self.dir / f"{name}.pem")
        return self.dir / f"{name}.pem", self.dir / f"{name}.key"


def install(path, source):
    """source's bytes at path, by a rename."""
    new = pathlib.Path(f"{path}.new")
    shutil.copy(source, new)
    new.rename(path)


def channel_credentials(ca, pair=None):
    cert, key = (file.read_bytes() for file in pair) if pair else (None, None)
    return grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes(), key, cert)
