//! PostgreSQL and PgBouncer for tests, with their own folders and free loopback ports.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{skip_test, until};

pub(crate) struct Postgres {
    home: TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
}

impl Postgres {
    /// `None` if the server is not installed; with `CI` set that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let Some(bin) = installed() else {
            return skip_test("PostgreSQL is needed: apt-get install postgresql");
        };
        let home = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { home, bin, port };
        if nix::unistd::geteuid().is_root() {
            assert!(
                Command::new("chown").arg("postgres").arg(server.home.path()).status().unwrap().success()
            );
        }
        let data = server.data();
        server.run("initdb", &["-D", &data, "-A", "trust", "-U", "owner", "--no-sync", "-E", "UTF8"]);
        server.start_again("");
        Some(server)
    }

    pub(crate) fn data(&self) -> String {
        self.home.path().join("data").display().to_string()
    }

    /// Path of one of PostgreSQL's programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Restarts the server with more settings.
    pub(crate) fn start_again(&self, settings: &str) {
        let (data, home) = (self.data(), self.home.path().display());
        let options =
            format!("-p {} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off {settings}", self.port);
        let log = format!("{home}/log");
        self.run("pg_ctl", &["-D", &data, "-o", &options, "-l", &log, "-w", "start"]);
        until("the database is up", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Stops the server, optionally immediately.
    pub(crate) fn stop(&self, how: &str) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", how, "-w", "stop"]);
    }

    /// Runs SQL as the owner.
    pub(crate) fn sql(&self, text: &str) -> String {
        self.sql_at(self.port, text)
    }

    /// Runs SQL as the owner, at the port of a pooler.
    pub(crate) fn sql_at(&self, port: u16, text: &str) -> String {
        let port = port.to_string();
        let args = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "owner",
            "-d",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-qAtc",
            text,
        ];
        let done = Command::new(self.bin.join("psql")).args(args).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// A connection as config text, with more settings.
    pub(crate) fn connection(&self, more: &str) -> String {
        format!(
            "  warehouse: {{ kind: postgres, host: 127.0.0.1, port: {}, database: postgres, {more} }}\n",
            self.port
        )
    }

    /// PostgreSQL does not run as root.
    fn run(&self, program: &str, args: &[&str]) {
        let program = self.bin.join(program);
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(args).current_dir(self.home.path()).env("LC_ALL", "C").stdin(Stdio::null());
        let done = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() || Path::new(&self.data()).join("postmaster.pid").exists() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(self.bin.join("pg_ctl"));
            if !nix::unistd::geteuid().is_root() {
                command = Command::new(self.bin.join("pg_ctl"));
            }
            let _ = command.args(["-D", &self.data(), "-m", "immediate", "stop"]).output();
        }
    }
}

/// PgBouncer in transaction mode in front of a [`Postgres`].
pub(crate) struct Bouncer {
    _home: TempDir,
    child: Child,
    pub(crate) port: u16,
}

impl Bouncer {
    /// `None` if PgBouncer is not installed; with `CI` set that is a failure.
    pub(crate) fn start(server: &Postgres, settings: &str) -> Option<Self> {
        let program = Path::new("/usr/sbin/pgbouncer");
        if !program.exists() {
            return skip_test("PgBouncer is needed: apt-get install pgbouncer");
        }
        let home = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (folder, ini) = (home.path().display(), home.path().join("pgbouncer.ini"));
        let write = |name: &str, text: &str| {
            let mut file = std::fs::File::create(home.path().join(name)).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        write("users", "\"owner\" \"\"\n");
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users\n\
             logfile = {folder}/log\npool_mode = transaction\n{settings}\n",
            server.port
        );
        write("pgbouncer.ini", &text);
        let mut command = if nix::unistd::geteuid().is_root() {
            let done = Command::new("chown").args(["-R", "postgres"]).arg(home.path()).status();
            assert!(done.unwrap().success());
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let child = command.arg("-q").arg(&ini).stdin(Stdio::null()).spawn().unwrap();
        until("PgBouncer is up", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { _home: home, child, port })
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn installed() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = glob::glob("/usr/lib/postgresql/*/bin/pg_ctl").ok()?.flatten().collect();
    found.sort();
    found.pop().and_then(|path| path.parent().map(Path::to_owned))
}
