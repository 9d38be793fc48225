"""An OAuth 2.1 authorization server with metadata, keys, and tokens for a client with a secret."""

import base64
import http.server
import json
import threading
import time
import urllib.parse
import urllib.request

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

CLIENT, SECRET = "laptop", "client-secret"


class Key:
    def __init__(self, id: str, algorithm: str) -> None:
        self.id, self.algorithm = id, algorithm
        match algorithm:
            case "RS256":
                self.private = rsa.generate_private_key(65537, 2048)
                jwk = RSAAlgorithm.to_jwk(self.private.public_key())
            case "ES256":
                self.private = ec.generate_private_key(ec.SECP256R1())
                jwk = ECAlgorithm.to_jwk(self.private.public_key())
            case "EdDSA":
                self.private = ed25519.Ed25519PrivateKey.generate()
                jwk = OKPAlgorithm.to_jwk(self.private.public_key())
        fields = json.loads(jwk)
        fields.pop("key_ops", None)
        self.public = fields | {"kid": id, "use": "sig", "alg": algorithm}


class Issuer:
    """Runs on a free port until `close`."""

    def __init__(self, audience: str, path: str = "", oidc: bool = False) -> None:
        self.audience, self.path, self.oidc = audience, path, oidc
        self.keys = [Key("first", "RS256")]
        self.requests: list[str] = []
        self.claimed_issuer = None
        # No request is answered while it is set.
        self.hangs = threading.Event()
        # The answers that never end: metadata, keys.
        self.endless: set[str] = set()
        # How many of the next requests are not answered: the connection breaks.
        self.breaks = 0
        # The next answers: status and headers.
        self.next: list[tuple[int, dict[str, str]]] = []
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status: int, body: dict) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def answer_endlessly(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.close_connection = True
                try:
                    self.wfile.write(b'{"a":"')
                    while True:
                        self.wfile.write(b"x" * 65536)
                except OSError:
                    pass

            def do_GET(self):
                issuer.requests.append(self.path)
                while issuer.hangs.is_set():
                    time.sleep(0.05)
                if issuer.breaks > 0:
                    issuer.breaks -= 1
                    self.close_connection = True
                    return None
                if issuer.next:
                    status, headers = issuer.next.pop(0)
                    self.send_response(status)
                    for name, value in ({"Content-Length": "0"} | headers).items():
                        self.send_header(name, value)
                    return self.end_headers()
                if ("keys" if self.path == "/keys" else "metadata") in issuer.endless:
                    return self.answer_endlessly()
                known = f"{issuer.path}/.well-known/openid-configuration" if issuer.oidc \
                    else f"/.well-known/oauth-authorization-server{issuer.path}"
                if self.path == known:
                    self.answer(200, issuer.metadata())
                elif self.path == "/keys":
                    self.answer(200, {"keys": [key.public for key in issuer.keys]})
                else:
                    self.answer(404, {})

            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
                if self.headers["Authorization"] != f"Basic {expected}" or form["grant_type"] != ["client_credentials"]:
                    return self.answer(401, {"error": "invalid_client"})
                token = issuer.token(scope=form["scope"][0], aud=form["resource"][0])
                self.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 300})

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return self.base + self.path

    def metadata(self) -> dict:
        return {
            "issuer": self.claimed_issuer or self.url,
            "token_endpoint": f"{self.base}/token",
            "jwks_uri": f"{self.base}/keys",
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
        }

    def claims(self, **changes) -> dict:
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": self.audience, "sub": "alice", "iat": now, "nbf": now, "exp": now + 300,
            "scope": "memory:read memory:write", "memory_project": "work",
        }  # fmt: skip
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, key: Key | None = None, header: dict | None = None, **changes) -> str:
        key = key or self.keys[0]
        fields = {"kid": key.id, "typ": "at+jwt"} | (header or {})
        given = {name: value for name, value in fields.items() if value is not None}
        return jwt.encode(self.claims(**changes), key.private, key.algorithm, given)

    def grant(self, scope: str, resource: str) -> str:
        """Returns a token of the token endpoint, as a client gets it."""
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        body = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": scope, "resource": resource}).encode()
        request = urllib.request.Request(self.metadata()["token_endpoint"], body, {"Authorization": f"Basic {basic}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return json.load(answer)["access_token"]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)
