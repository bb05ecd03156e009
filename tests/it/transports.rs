//! Where Postfix finds becalm: TCP, a chroot, sockets that systemd made.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use becalm::postfix::Postfix;

use crate::harness::{Becalm, Letter, TOUCHY, fates, open_folder, person, queued, start};

const ALL: &str = "all@example.org";

fn lists() -> String {
    format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}")
}

/// A message of the list passes, the next is held.
fn assert_filters(postfix: &Postfix, people: usize) {
    let mut client = postfix.client().unwrap();
    let mut ids = (people..people + 2)
        .map(|n| queued(&Letter::new(&person(n), &format!("m{n}")).send(&mut client, &[ALL])));
    let (_, second) = (ids.next(), ids.next().unwrap());
    assert!(fates(postfix).held.contains(&second));
}

#[test]
fn tcp_and_a_socket_inside_a_chroot_at_once() {
    // The port is free now, and will be when becalm binds it unless somebody is very quick.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let chrooted =
        start(Postfix::builder().chroot().milter("unix:becalm/becalm.sock").default_action("tempfail"));
    let tcp = start(Postfix::builder().milter(format!("inet:127.0.0.1:{port}")).default_action("tempfail"));
    let folder = chrooted.queue_directory().join("becalm");
    std::fs::create_dir(&folder).unwrap();
    let socket = folder.join("becalm.sock");
    let config =
        format!("listen.sockets = ['unix:{}', 'inet:{port}@127.0.0.1']\n{}", socket.display(), lists());
    let becalm = Becalm::start_on_own_sockets(&config, |program| program);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "with the mode and the group that let Postfix in, and nobody else");
    assert_filters(&chrooted, 0);
    assert_filters(&tcp, 10);
    let listening = becalm.status().listening;
    assert_eq!(listening, [format!("unix:{}", socket.display()), format!("inet:{port}@127.0.0.1")]);
}

/// As sd_listen_fds(3) says: descriptors from 3 on, meant for the process LISTEN_PID.
#[test]
fn sockets_passed_by_systemd() {
    let folder = open_folder();
    let path = folder.path().join("passed.sock");
    let unix = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    // What the configuration names is not opened then.
    let own = folder.path().join("own.sock");
    let config = format!("listen.sockets = ['unix:{}']\n{}", own.display(), lists());
    let becalm = Becalm::start_on_own_sockets(&config, |program| {
        let mut shell = Command::new("/bin/sh");
        shell
            .args([
                "-c",
                "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"",
                "sh",
            ])
            .arg(program.get_program())
            .args(program.get_args())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::from(OwnedFd::from(unix)))
            .stdout(Stdio::from(OwnedFd::from(tcp)));
        shell
    });
    assert_eq!(
        becalm.status().listening,
        [format!("unix:{}", path.display()), format!("inet:{port}@127.0.0.1")]
    );
    assert!(!own.exists());
    let over_unix =
        start(Postfix::builder().milter(format!("unix:{}", path.display())).default_action("tempfail"));
    assert_filters(&over_unix, 0);
    let over_tcp =
        start(Postfix::builder().milter(format!("inet:127.0.0.1:{port}")).default_action("tempfail"));
    assert_filters(&over_tcp, 10);
}

/// A dead process's socket is taken over, a living one's and a file are not.
#[test]
fn what_is_in_the_way_is_not_trampled_on() {
    let becalm = Becalm::start(&lists());
    let again = becalm.try_command(&["run"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && said.contains("another process listens there"), "{said}");
    becalm.status();

    let socket = becalm.socket();
    let becalm = becalm.restart();
    assert!(becalm.socket() == socket && socket.exists());

    let folder = becalm.home().to_owned();
    std::fs::write(folder.join("file"), "precious").unwrap();
    becalm.rewrite(|config| config.replace("becalm.sock", "file"));
    let output = becalm.try_command(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not a socket"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "precious");
}
