"""A certification authority for tests, and certificates of it."""

import subprocess

NAMES = "DNS:localhost,DNS:*.example.test,IP:127.0.0.1"


def _openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


def make(folder):
    """folder/ca.pem and ca.key."""
    folder.mkdir(parents=True, exist_ok=True)
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
        "-subj", "/CN=mailhaul test CA", "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.pem"))


def issue(folder, name, names=NAMES, days=30):
    """folder/NAME.pem and NAME.key, signed by the CA there. `names` as
    openssl's subjectAltName; days may be 0 for one that has run out."""
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(
        f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n"
        "extendedKeyUsage=serverAuth,clientAuth\n")
    _openssl("req", "-new", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
             "-keyout", str(folder / f"{name}.key"), "-out", str(request))
    _openssl("x509", "-req", "-in", str(request), "-CA", str(folder / "ca.pem"),
             "-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days",
             str(days), "-extfile", str(extensions),
             "-out", str(folder / f"{name}.pem"))
    request.unlink()
    extensions.unlink()
