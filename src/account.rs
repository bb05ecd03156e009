//! Users and groups of this machine, by name: getent knows every one of them (files, LDAP).

use std::io;

/// The number of a group.
pub(crate) fn group_id(group: &str) -> io::Result<u32> {
    look_up("group", group)
}

/// The number of a user.
pub(crate) fn user_id(user: &str) -> io::Result<u32> {
    look_up("passwd", user)
}

/// The name of a user; the number where it has none.
pub(crate) fn user_name(user: u32) -> String {
    let output = std::process::Command::new("getent").args(["passwd", "--", &user.to_string()]).output();
    let line = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    match line.split(':').next() {
        Some(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => user.to_string(),
    }
}

fn look_up(database: &str, name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let output = std::process::Command::new("getent").args([database, "--", name]).output()?;
    let line = String::from_utf8_lossy(&output.stdout);
    let number = line.split(':').nth(2).and_then(|number| number.parse().ok());
    number
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no entry for {name} in {database}")))
}
