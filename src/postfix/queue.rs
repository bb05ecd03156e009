//! What is in Postfix's queues, and what has left them.

use serde::Deserialize;

/// A message in a queue, as `postqueue -j` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QueuedMessage {
    /// `hold`, `active`, `deferred`, `incoming`, `maildrop`, `corrupt`.
    pub queue_name: String,
    /// Its queue id.
    pub queue_id: String,
    /// The envelope sender; `MAILER-DAEMON` for the null sender.
    pub sender: String,
    /// Recipients that it is still to reach.
    pub recipients: Vec<Recipient>,
}

/// One recipient of a queued message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// Why it has not been delivered.
    #[serde(default)]
    pub delay_reason: Option<String>,
}

/// A recipient that a message was delivered to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivery {
    /// The message.
    pub queue_id: String,
    /// The recipient, after aliases.
    pub recipient: String,
}

impl QueuedMessage {
    /// The addresses of the recipients.
    pub fn addresses(&self) -> Vec<&str> {
        self.recipients.iter().map(|recipient| recipient.address.as_str()).collect()
    }
}

/// Reads the output of `postqueue -j`: a JSON object a line.
pub(super) fn parse(output: &str) -> Vec<QueuedMessage> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Reads the deliveries from a log: lines of delivery agents that end with `status=sent (...)`.
pub(super) fn deliveries(log: &str) -> Vec<Delivery> {
    log.lines()
        .filter_map(|line| {
            let (process, rest) = line.split_once("]: ")?;
            let (queue_id, rest) = rest.split_once(": to=<")?;
            let (recipient, rest) = rest.split_once('>')?;
            let (_, status) = rest.split_once(", status=")?;
            (process.contains(" postfix/") && status.starts_with("sent "))
                .then(|| Delivery { queue_id: queue_id.to_owned(), recipient: recipient.to_owned() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_queue() {
        let output = concat!(
            r#"{"queue_name": "hold", "queue_id": "4XyZ1a2b3c", "arrival_time": 1763822000, "message_size": 318, "#,
            r#""forced_expire": false, "sender": "a@example.org", "#,
            r#""recipients": [{"address": "all@example.org"}, {"address": "b@example.org", "delay_reason": "x"}]}"#,
            "\nnot JSON\n"
        );
        let [message] = &parse(output)[..] else { panic!("{:?}", parse(output)) };
        assert_eq!((message.queue_name.as_str(), message.queue_id.as_str()), ("hold", "4XyZ1a2b3c"));
        assert_eq!(message.addresses(), ["all@example.org", "b@example.org"]);
    }

    #[test]
    fn reads_deliveries() {
        let log = "\
Nov 22 14:54:13 mail postfix/discard[311]: 4XyZ1: to=<all@example.org>, relay=none, delay=0.1, dsn=2.0.0, status=sent (all@example.org)
Nov 22 14:54:13 mail postfix/pipe[311]: 4XyZ2: to=<b@example.org>, orig_to=<a@example.org>, relay=file, dsn=2.0.0, status=sent (delivered)
Nov 22 14:54:13 mail postfix/error[312]: 4XyZ3: to=<c@example.org>, relay=none, dsn=4.3.0, status=deferred (unknown, status=sent soon)
Nov 22 14:54:13 mail postfix/qmgr[312]: 4XyZ1: removed
";
        let delivered = deliveries(log);
        let delivered: Vec<_> =
            delivered.iter().map(|d| (d.queue_id.as_str(), d.recipient.as_str())).collect();
        assert_eq!(delivered, [("4XyZ1", "all@example.org"), ("4XyZ2", "b@example.org")]);
    }
}
