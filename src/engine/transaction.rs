//! One message while it comes in: its envelope, then its headers.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::keys::{Keys, Role};
use super::world::{WatchedList, World};
use crate::mail::{AddressBuf, Head};
use crate::time::Timestamp;

/// List recipients that are judged each for itself. A message to more lists than this is rare enough that
/// the first of them may speak for the rest.
const MAX_LIST_RECIPIENTS: usize = 256;

/// The longest sender or user that is kept; RFC 5321 allows paths of 256 bytes, and some software longer.
const MAX_NAME: usize = 1024;

/// A message while it comes in. One object serves a whole session: `begin` starts the next
/// message without giving its memory back.
pub struct Transaction {
    pub(super) world: Arc<World>,
    /// Which of the engine's worlds it is.
    pub(super) world_number: u64,
    pub(super) now: Timestamp,
    pub(super) client: Option<IpAddr>,
    /// Keyed hash of the client.
    client_key: u64,
    /// A message has come in since the last reset.
    begun: bool,
    pub(super) sender: Vec<u8>,
    pub(super) user: Option<Vec<u8>>,
    pub(super) author_key: Option<u64>,
    pub(super) origin_key: u64,
    pub(super) recipients: u32,
    /// Room for one address at a time.
    address: AddressBuf,
    /// Sum of the recipients' keys: the same set gives the same digest in any order.
    pub(super) digest: u64,
    pub(super) lists: SmallVec<[ListRecipient; 2]>,
    pub(super) list_recipients: u32,
    pub(super) head: Head,
}

/// A recipient that is a list, with the bytes that named it: only these, to the letter, take it off again.
pub(super) struct ListRecipient {
    pub raw: Box<[u8]>,
    pub list: Arc<WatchedList>,
}

impl Transaction {
    /// An empty transaction of a session from `client`.
    pub(super) fn new(world: Arc<World>, world_number: u64, client: Option<IpAddr>, keys: &Keys) -> Self {
        let address = client.map_or(0, |ip| match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        });
        Self {
            world,
            world_number,
            now: Timestamp::default(),
            client,
            client_key: keys.combine(Role::Origin, &[address as u64, (address >> 64) as u64]),
            begun: false,
            sender: Vec::new(),
            user: None,
            author_key: None,
            origin_key: 0,
            recipients: 0,
            address: AddressBuf::new(),
            digest: 0,
            lists: SmallVec::new(),
            list_recipients: 0,
            head: Head::new(),
        }
    }

    /// Starts a message: its envelope sender as it was sent, and the authenticated user if there is one.
    pub(super) fn begin(&mut self, sender: &[u8], user: Option<&[u8]>, keys: &Keys, now: Timestamp) {
        self.reset();
        self.now = now;
        self.sender.extend_from_slice(sender.get(..MAX_NAME).unwrap_or(sender));
        self.user = user.map(|user| user.get(..MAX_NAME).unwrap_or(user).to_vec());
        self.begun = true;
        let sender = keys.bytes(Role::Origin, &self.sender);
        self.origin_key = self.client_key ^ sender;
        let written = match &self.user {
            None => sender,
            Some(user) => keys.combine(Role::Origin, &[sender, keys.bytes(Role::Author, user)]),
        };
        self.author_key = self.world.authors.key(written).or_else(|| {
            let author =
                crate::mail::author(self.world.rules(), self.user.as_deref(), None, &self.sender, |_| false)?;
            let key = keys.bytes(Role::Author, &author);
            self.world.authors.put(written, key);
            Some(key)
        });
    }

    /// Takes a recipient whose spelling is not remembered as a mailbox's. Returns the key of its address, and whether it is
    /// unknown to the directory.
    pub(super) fn add_recipient(&mut self, raw: &[u8], spelling: u64, keys: &Keys) -> Option<(u64, bool)> {
        let (key, list) = self.world.make_out(raw, spelling, &mut self.address, keys, self.now)?;
        self.digest = self.digest.wrapping_add(key);
        let Some(list) = list else { return Some((key, true)) };
        self.list_recipients = self.list_recipients.saturating_add(1);
        if self.lists.len() < MAX_LIST_RECIPIENTS {
            self.lists.push(ListRecipient { raw: raw.into(), list });
        }
        Some((key, false))
    }

    /// Takes a header field, as the milter protocol gives it.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        self.head.push(name, value);
    }

    /// The lists among the recipients, each once.
    pub(super) fn distinct_lists(&self) -> SmallVec<[Arc<WatchedList>; 2]> {
        let mut distinct: SmallVec<[Arc<WatchedList>; 2]> = SmallVec::new();
        for recipient in &self.lists {
            if !distinct.iter().any(|list| list.key == recipient.list.key) {
                distinct.push(Arc::clone(&recipient.list));
            }
        }
        distinct
    }

    /// The lists among the recipients, in the order in which they were named; one may be there twice.
    pub fn lists(&self) -> impl Iterator<Item = &Arc<WatchedList>> {
        self.lists.iter().map(|recipient| &recipient.list)
    }

    /// Recipients of this transaction that are no lists.
    pub(super) fn plain_recipients(&self) -> u64 {
        u64::from(self.recipients.saturating_sub(self.list_recipients))
    }

    /// How many of becalm's own header fields came in from outside.
    pub fn foreign_marks(&self) -> u32 {
        self.head.becalm_headers()
    }

    /// The mark of becalm's own mail, if the message has one: unchecked.
    pub fn own_mark(&self) -> Option<&str> {
        self.head.own_mark()
    }

    /// The Message-ID as it was sent, without `<>`.
    pub fn message_id(&self) -> Option<&[u8]> {
        self.head.message_id(None)
    }

    /// The envelope sender, as it was sent.
    pub fn sender(&self) -> &[u8] {
        &self.sender
    }

    /// Forgets the message; the session's own facts stay.
    pub fn reset(&mut self) {
        if !std::mem::take(&mut self.begun) {
            return;
        }
        self.sender.clear();
        self.user = None;
        self.author_key = None;
        self.recipients = 0;
        self.digest = 0;
        self.lists.clear();
        self.list_recipients = 0;
        self.head.clear();
    }
}
