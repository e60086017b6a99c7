//! Azure Blob Storage for tests: Azurite, Microsoft's emulator, from npm, on a free loopback port.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::{root, skip_test, until};

/// The default account of Azurite, with its published key.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Script for one request signed with the shared key: method, path and query as arguments, the body on stdin.
const SIGNED: &str = r"
import base64, hashlib, hmac, sys, urllib.request
from email.utils import formatdate
url, account, key, method, path, query = sys.argv[1:]
body = sys.stdin.buffer.read()
kind = 'application/octet-stream' if body else ''
headers = {'x-ms-date': formatdate(usegmt=True), 'x-ms-version': '2021-08-06'}
if not query:
    headers['x-ms-blob-type'] = 'BlockBlob'
named = ''.join(f'{k}:{v}\n' for k, v in sorted(headers.items()))
resource = f'/{account}/{account}{path}' + ''.join('\n' + part.replace('=', ':') for part in query.split('&') if part)
length = str(len(body)) if body else ''
text = f'{method}\n\n\n{length}\n\n{kind}\n\n\n\n\n\n\n{named}{resource}'
mac = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
headers['Authorization'] = f'SharedKey {account}:{base64.b64encode(mac).decode()}'
if kind:
    headers['Content-Type'] = kind
request = urllib.request.Request(url + path + ('?' + query if query else ''), body or None, headers, method=method)
urllib.request.urlopen(request)
";

pub(crate) struct Azure {
    child: Child,
    pub(crate) url: String,
}

impl Azure {
    /// `None` if the server is not installed; with `CI` set that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let program = root().join("target/drivers/node_modules/azurite/dist/src/blob/main.js");
        if !program.exists() {
            return skip_test("Azurite is needed: npm install --prefix target/drivers azurite");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("node");
        command.arg(program).args(["--silent", "--inMemoryPersistence", "--disableTelemetry"]);
        command.args(["--skipApiVersionCheck", "--blobPort", &port.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let azure = Self { child, url: format!("http://127.0.0.1:{port}/{ACCOUNT}") };
        until("Azurite is up", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        azure.send("/states", "restype=container", b"");
        Some(azure)
    }

    /// Writes a blob.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        self.send(&format!("/states/{key}"), "", bytes);
    }

    fn send(&self, path: &str, query: &str, body: &[u8]) {
        let mut python = Command::new("python3");
        python.args(["-c", SIGNED, &self.url, ACCOUNT, KEY, "PUT", path, query]);
        let mut sent = python.stdin(Stdio::piped()).spawn().unwrap();
        sent.stdin.take().unwrap().write_all(body).unwrap();
        assert!(sent.wait().unwrap().success(), "{path}");
    }

    /// Credentials for the server, as environment variables.
    pub(crate) fn keys() -> [(&'static str, &'static str); 2] {
        [("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT), ("AZURE_STORAGE_ACCOUNT_KEY", KEY)]
    }
}

impl Drop for Azure {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
