"""How trexe says who it is and where each service is: certificates, tokens, a credential helper, a
remote and an instance for each service, a file of options."""
import pathlib
import sys

import forky

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "attack"))
from authority import Authority  # noqa: E402

SERVICES = ("cas", "ac", "exec", "logstream")


class ClosedForky(forky.Forky):
    """A server that speaks TLS, to who has a certificate of one authority, or a token."""

    def start_server(self, listen=None):
        self.authority = Authority(self.dir, "pki")
        for name in ("server", "user", "worker"):
            self.authority.issue(name)
        (self.dir / "token").write_text("secret-of-a-test\n")
        pki = self.dir / "pki"
        self.given_args = [
            "--instance", "dev", "--tls-cert", pki / "server.pem", "--tls-key", pki / "server.key",
            "--tls-client-ca", pki / "ca.pem", "--grant", "cn:user=all", "--grant",
            "cn:worker=worker,cas-read,cas-write", "--grant",
            f"token:{self.dir}/token=execute,cas-read,cas-write,ac-read"]
        super().start_server("grpcs://127.0.0.1:0")
        self.address = self.address.replace("127.0.0.1", "localhost")  # as the certificate says

    def own_files(self, who):
        pki = self.inner(self.dir / "pki")
        return ("--tls-ca", f"{pki}/ca.pem", "--tls-cert", f"{pki}/{who}.pem", "--tls-key",
                f"{pki}/{who}.key")


class TrexeAccessTest(forky.InteropTest):
    @classmethod
    def setUpClass(cls):
        cls.forky = ClosedForky()
        cls.addClassCleanup(cls.forky.close)
        cls.worker = cls.forky.start_worker(*cls.forky.own_files("worker"),
                                            server=cls.forky.address)
        cls.url = cls.forky.address.replace("grpcs://", "https://")

    def trexe(self, options, text, code=0):
        run = self.inside(f"exec trexe {options} --platform-properties=OSFamily=linux --do-not-cache "
                          f"/bin/sh -c 'echo {text}'", code)
        self.assertEqual(text in run.text, code == 0, run.text)
        return run

    def everywhere(self, *more):
        return f"--remote={self.url} --instance=dev --server-cert=pki/ca.pem " + " ".join(more)

    def test_a_certificate(self):
        self.trexe(self.everywhere("--client-cert=pki/user.pem", "--client-key=pki/user.key"),
                   "by-certificate")

    def test_a_token(self):
        self.trexe(self.everywhere("--access-token=token", "--token-reload-interval=1"), "by-token")

    def test_a_credential_helper(self):
        helper = self.forky.dir / "helper"
        helper.write_text("""#!/bin/sh
            cat > /dev/null
            printf '{"headers": {"authorization": ["Bearer %s"]}}' "$(cat $HOME/token)"\n""")
        helper.chmod(0o755)
        self.trexe(self.everywhere("--credential-helper=$HOME/helper"), "by-helper")

    def test_nobody(self):
        (self.forky.dir / "wrong").write_text("guessed\n")
        for more in ((), ("--access-token=wrong",)):
            run = self.trexe(self.everywhere("--retry-limit=1", *more), "never", code=1)
            self.assertRegex(run.err, "the right .* is missing")

    def test_each_service_by_itself(self):
        """With what each of them has for itself, and nothing for all."""
        options = " ".join(
            f"--{s}-remote={self.url} --{s}-instance=dev --{s}-server-cert=pki/ca.pem "
            f"--{s}-access-token=token --{s}-token-reload-interval=5 --{s}-retry-limit=1 "
            f"--{s}-retry-delay=100 --{s}-retry-on-code=INTERNAL --{s}-request-timeout=60 "
            f"--{s}-min-throughput=1K --{s}-keepalive-time=20 "
            f"--{s}-load-balancing-policy=round_robin" for s in SERVICES)
        self.trexe(options + " --stream-logs", "each-by-itself")
        other = options.replace("--exec-instance=dev", "--exec-instance=nowhere")
        self.trexe(other, "never", code=1)

    def test_a_file_of_options(self):
        (self.forky.dir / "trexe.toml").write_text(
            f'[connection]\nremote = "{self.url}"\ninstance = "dev"\nserver-cert = "pki/ca.pem"\n'
            'access-token = "token"\n')
        self.trexe("--config-file=trexe.toml", "by-file")
