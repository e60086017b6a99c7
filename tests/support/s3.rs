//! S3 for tests: moto, from PyPI, on a free loopback port.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::{Run, Workspace, http, run, skip_test, until};

/// Credentials for the server, as environment variables.
pub(crate) const S3_KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test-secret-of-s3")];

/// Runs the program with credentials for the server.
pub(crate) fn with_keys(w: &Workspace, args: &[&str]) -> Run {
    let mut command = w.command(args);
    command.envs(S3_KEYS);
    run(command)
}

pub(crate) struct S3 {
    child: Child,
    pub(crate) url: String,
}

impl S3 {
    /// `None` if the server is not installed; with `CI` set that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let known = Command::new("python3").args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
        if !known.is_ok_and(|status| status.success()) {
            return skip_test("an S3 server is needed: pip install 'moto[server]'");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("python3");
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let s3 = Self { child, url: format!("http://127.0.0.1:{port}") };
        until("the S3 server is up", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let output = http(&s3.url, "PUT", "/states", &[], "");
        assert_eq!(output.status, 200, "{}", output.body);
        Some(s3)
    }

    /// Writes an object.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let script = "import boto3,sys; s=boto3.client('s3',endpoint_url=sys.argv[1],region_name='us-east-1',\
            aws_access_key_id='test',aws_secret_access_key='test'); \
            s.put_object(Bucket='states',Key=sys.argv[2],Body=sys.stdin.buffer.read())";
        let mut python = Command::new("python3");
        let mut put = python.args(["-c", script, &self.url, key]).stdin(Stdio::piped()).spawn().unwrap();
        put.stdin.take().unwrap().write_all(bytes).unwrap();
        assert!(put.wait().unwrap().success());
    }

    /// Requires valid signatures from now on. Returns the credentials.
    pub(crate) fn check_signatures(&self) -> [(&'static str, String); 2] {
        let script = "import boto3,sys,urllib.request as r; u=sys.argv[1]; i=boto3.client('iam',endpoint_url=u,\
            region_name='us-east-1',aws_access_key_id='test',aws_secret_access_key='test'); \
            i.create_user(UserName='u'); i.put_user_policy(UserName='u',PolicyName='p',PolicyDocument=\
            '{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"*\"}]}'); \
            k=i.create_access_key(UserName='u')['AccessKey']; r.urlopen(r.Request(u+'/moto-api/reset-auth',\
            data=b'0',headers={'content-type':'text/plain'})); print(k['AccessKeyId'],k['SecretAccessKey'])";
        let output = Command::new("python3").args(["-c", script, &self.url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        let (id, secret) = printed.trim().split_once(' ').unwrap();
        [("AWS_ACCESS_KEY_ID", id.to_owned()), ("AWS_SECRET_ACCESS_KEY", secret.to_owned())]
    }

    /// Uploads every file of a folder below a key.
    pub(crate) fn put_all(&self, key: &str, folder: &std::path::Path) {
        let script =
            "import boto3,os,sys; s=boto3.client('s3',endpoint_url=sys.argv[1],region_name='us-east-1',\
            aws_access_key_id='test',aws_secret_access_key='test')
for at, _, names in os.walk(sys.argv[3]):
    for name in names:
        path = os.path.join(at, name)
        s.upload_file(path, 'states', sys.argv[2] + '/' + os.path.relpath(path, sys.argv[3]))";
        let mut python = Command::new("python3");
        let put = python.args(["-c", script, &self.url, key]).arg(folder).status().unwrap();
        assert!(put.success());
    }

    /// Runs lines of Python with a client `s`. Returns what they write.
    fn python(&self, lines: &str, args: &[&str]) -> Vec<u8> {
        let script = format!(
            "import boto3,sys; s=boto3.client('s3',endpoint_url=sys.argv[1],region_name='us-east-1',\
             aws_access_key_id='test',aws_secret_access_key='test')\n{lines}"
        );
        let done = Command::new("python3").args(["-c", &script, &self.url]).args(args).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    /// The bytes of an object.
    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        let get = "sys.stdout.buffer.write(s.get_object(Bucket='states',Key=sys.argv[2])['Body'].read())";
        self.python(get, &[key])
    }

    /// Keys with this prefix; at most a thousand.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let list = "for o in s.list_objects_v2(Bucket='states',Prefix=sys.argv[2]).get('Contents',[]): print(o['Key'])";
        String::from_utf8(self.python(list, &[prefix])).unwrap().lines().map(str::to_owned).collect()
    }

    /// Keys below a prefix of objects that contain a text.
    pub(crate) fn keys_with(&self, prefix: &str, text: &str) -> Vec<String> {
        let find = "for o in s.list_objects_v2(Bucket='states',Prefix=sys.argv[2]).get('Contents',[]):\n\
                    \x20 if sys.argv[3].encode() in s.get_object(Bucket='states',Key=o['Key'])['Body'].read(): print(o['Key'])";
        String::from_utf8(self.python(find, &[prefix, text])).unwrap().lines().map(str::to_owned).collect()
    }

    /// Removes an object.
    pub(crate) fn delete(&self, key: &str) {
        self.python("s.delete_object(Bucket='states',Key=sys.argv[2])", &[key]);
    }

    /// The text of an object, by its address.
    pub(crate) fn text(&self, address: &str) -> String {
        let (bucket, key) = address.strip_prefix("s3://").unwrap().split_once('/').unwrap();
        let script = "import boto3,sys; s=boto3.client('s3',endpoint_url=sys.argv[1],region_name='us-east-1',\
            aws_access_key_id='test',aws_secret_access_key='test'); \
            sys.stdout.buffer.write(s.get_object(Bucket=sys.argv[2],Key=sys.argv[3])['Body'].read())";
        let output = Command::new("python3").args(["-c", script, &self.url, bucket, key]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Config lines for a state in this bucket.
    pub(crate) fn config(&self, lease: &str) -> String {
        let url = &self.url;
        format!(
            "state: s3://states/team/prod\nbucket: {{ endpoint: '{url}', region: us-east-1, lease: {lease} }}\n"
        )
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
