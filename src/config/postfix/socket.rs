//! Whether Postfix's smtpd may connect to becalm's socket, by owner, group and mode of every step to it.

use std::io;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::config::Listen;

/// As whom Postfix's daemons run: `mail_owner`, with all its groups (Postfix calls `initgroups`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `postfix`.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group ids.
    pub gids: Vec<u32>,
    /// The names of its groups.
    pub groups: Vec<String>,
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The path itself is a symbolic link; the rest is about what it leads to.
    pub link: bool,
    /// A unix socket.
    pub socket: bool,
    /// A folder.
    pub folder: bool,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Node {
    /// Whether `who` has the permissions `wanted` (4 read, 2 write, 1 search): POSIX looks at one class only.
    fn allows(self, who: &Identity, wanted: u32) -> bool {
        let shift = match () {
            () if self.uid == who.uid => 6,
            () if who.gids.contains(&self.gid) => 3,
            () => 0,
        };
        who.uid == 0 || (self.mode >> shift) & wanted == wanted
    }
}

/// Goes the way to `socket` as `who` would, from `root` on (the queue directory, where smtpd stands in it; else `/`).
/// `look` tells what stands at a path; access lists beyond the mode are not seen.
pub fn examine_socket(
    socket: &Path,
    root: &Path,
    chrooted: bool,
    who: &Identity,
    listen: &Listen,
    look: impl Fn(&Path) -> io::Result<Node>,
) -> Vec<Finding> {
    let folder = socket.parent().unwrap_or(root);
    for step in steps(root, folder) {
        if let Some(finding) = obstacle(&step, chrooted, who, listen, &look) {
            return vec![finding];
        }
    }
    let topic = socket.display().to_string();
    match look(socket) {
        Ok(node) => at_socket(topic, node, who),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut found = vec![Finding::warning(
                topic.clone(),
                "there is no socket: becalm is not running",
                "start becalm; until then Postfix takes its default action",
            )];
            found.extend(will_be_refused(topic, who, listen));
            found
        }
        Err(error) => {
            vec![Finding::error(topic, format!("cannot be looked at: {error}"), "run this as root")]
        }
    }
}

/// `root` and every folder below it down to `folder`.
fn steps(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut steps: Vec<PathBuf> =
        folder.ancestors().take_while(|step| step.starts_with(root)).map(Path::to_owned).collect();
    steps.reverse();
    steps
}

/// Why `who` cannot pass through the folder `step`.
fn obstacle(
    step: &Path,
    chrooted: bool,
    who: &Identity,
    listen: &Listen,
    look: impl Fn(&Path) -> io::Result<Node>,
) -> Option<Finding> {
    let topic = step.display().to_string();
    let node = match look(step) {
        Ok(node) => node,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let group =
                listen.group.as_deref().or(who.groups.first().map(String::as_str)).unwrap_or("postfix");
            return Some(Finding::error(
                topic.clone(),
                "this folder is missing",
                format!("install -d -o becalm -g {group} -m 0750 {topic}"),
            ));
        }
        Err(error) => {
            return Some(Finding::error(topic, format!("cannot be looked at: {error}"), "run this as root"));
        }
    };
    if node.link && chrooted {
        let help = "use a real folder below the queue directory";
        return Some(Finding::error(topic, "a symbolic link leads elsewhere inside smtpd's chroot", help));
    }
    if !node.folder {
        return Some(Finding::error(topic, "is not a folder", "move it away, or listen elsewhere"));
    }
    if !node.allows(who, 1) {
        let message = format!(
            "user `{}` may not enter it (mode {:04o}, group id {})",
            who.name,
            node.mode & 0o7777,
            node.gid
        );
        let group = who.groups.first().map_or("postfix", String::as_str);
        return Some(Finding::error(
            topic.clone(),
            message,
            format!("chgrp {group} {topic} && chmod g+x {topic}"),
        ));
    }
    None
}

fn at_socket(topic: String, node: Node, who: &Identity) -> Vec<Finding> {
    if !node.socket {
        return vec![Finding::error(topic, "is not a socket", "remove it and start becalm")];
    }
    let mode = node.mode & 0o777;
    if !node.allows(who, 2) {
        let message = format!(
            "user `{}` may not connect (mode {mode:04o}, owner {}, group id {})",
            who.name, node.uid, node.gid
        );
        let group = who.groups.first().map_or("postfix", String::as_str);
        let help = format!("becalm.toml: [listen] mode = \"0660\", group = \"{group}\"");
        return vec![Finding::error(topic, message, help)];
    }
    if mode & 0o002 != 0 {
        let message = format!("every user of this machine can speak to becalm (mode {mode:04o})");
        return vec![Finding::warning(topic, message, "becalm.toml: [listen] mode = \"0660\"")];
    }
    vec![Finding::ok(topic, format!("user `{}` may connect (mode {mode:04o})", who.name))]
}

/// Whether the socket that becalm will make, by its configuration, would refuse `who`.
fn will_be_refused(topic: String, who: &Identity, listen: &Listen) -> Option<Finding> {
    let member = listen.group.as_ref().is_some_and(|group| who.groups.contains(group));
    if listen.mode & 0o002 != 0 || (member && listen.mode & 0o020 != 0) {
        return None;
    }
    let (mode, group) = (listen.mode, listen.group.as_deref().unwrap_or(""));
    let message =
        format!("user `{}` may not connect to a socket of mode {mode:04o} and group \"{group}\"", who.name);
    let group = who.groups.first().map_or("postfix", String::as_str);
    Some(Finding::error(
        topic,
        message,
        format!("becalm.toml: [listen] mode = \"0660\", group = \"{group}\""),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;

    const FOLDER: Node = Node { link: false, socket: false, folder: true, uid: 0, gid: 0, mode: 0o755 };
    const SOCKET: Node = Node { link: false, socket: true, folder: false, uid: 9, gid: 105, mode: 0o660 };

    fn postfix() -> Identity {
        Identity {
            name: "postfix".to_owned(),
            uid: 102,
            gids: vec![105, 7],
            groups: vec!["postfix".to_owned()],
        }
    }

    /// What is found where the folder and the socket are as given.
    fn found(folder: Option<Node>, socket: Option<Node>, listen: &Listen) -> Vec<(Severity, String)> {
        let look = |path: &Path| {
            let node = match path.to_str() {
                Some("/q/becalm") => folder,
                Some("/q/becalm/s") => socket,
                _ => Some(FOLDER),
            };
            node.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        examine_socket(Path::new("/q/becalm/s"), Path::new("/q"), true, &postfix(), listen, look)
            .into_iter()
            .map(|finding| (finding.severity, finding.message))
            .collect()
    }

    fn first(folder: Option<Node>, socket: Option<Node>) -> (Severity, String) {
        found(folder, socket, &Listen::default()).remove(0)
    }

    #[test]
    fn the_way_is_free_or_not() {
        assert_eq!(first(Some(FOLDER), Some(SOCKET)).0, Severity::Ok);
        let closed = Node { mode: 0o750, ..FOLDER };
        assert!(first(Some(closed), Some(SOCKET)).1.contains("may not enter"));
        assert_eq!(first(Some(Node { gid: 7, ..closed }), Some(SOCKET)).0, Severity::Ok);
        // The owner's bits hold for the owner, whatever the others say.
        assert!(
            first(Some(Node { uid: 102, mode: 0o077, ..FOLDER }), Some(SOCKET)).1.contains("may not enter")
        );
        assert!(first(None, None).1.contains("missing"));
        assert!(first(Some(Node { link: true, ..FOLDER }), Some(SOCKET)).1.contains("symbolic link"));
        assert!(first(Some(SOCKET), Some(SOCKET)).1.contains("not a folder"));
    }

    #[test]
    fn the_socket_lets_postfix_in_or_not() {
        assert!(first(Some(FOLDER), Some(Node { gid: 9, ..SOCKET })).1.contains("may not connect"));
        assert!(first(Some(FOLDER), Some(Node { mode: 0o640, ..SOCKET })).1.contains("may not connect"));
        let (severity, message) = first(Some(FOLDER), Some(Node { mode: 0o666, ..SOCKET }));
        assert!(severity == Severity::Warning && message.contains("every user"), "{message}");
        assert!(first(Some(FOLDER), Some(FOLDER)).1.contains("not a socket"));
    }

    #[test]
    fn a_socket_that_is_not_there_yet_is_judged_by_the_configuration() {
        assert_eq!(found(Some(FOLDER), None, &Listen::default()).len(), 1);
        let listen = Listen { group: Some("becalm".to_owned()), ..Listen::default() };
        let found = found(Some(FOLDER), None, &listen);
        assert_eq!(found[1].0, Severity::Error, "{found:?}");
    }
}
