//! Addresses as Postfix would deliver them.

use std::collections::{BTreeMap, BTreeSet};

/// How this site's Postfix rewrites and splits addresses; each field is the Postfix parameter of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// `myorigin`: the domain of a bare local part. Empty: a bare local part stays bare.
    pub myorigin: String,
    /// `mydestination`, expanded: domains whose local parts are looked up in the local aliases. All are one
    /// domain to becalm: addresses there are written with the first of them.
    pub local_domains: Vec<String>,
    /// Domains that are another spelling of a domain (alias → real), as in `@old.example @new.example`.
    pub domain_aliases: BTreeMap<String, String>,
    /// `recipient_delimiter`: characters that may start an address extension; commonly `+`. Empty: none.
    pub recipient_delimiter: BTreeSet<u8>,
}
