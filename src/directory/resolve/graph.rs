//! Which entry names which: cycles merged, and what can be reached from where.

use super::TooTangled;

/// Pairs of a component and one below it that are kept: 64 MiB. A chain of 5,600 lists has as many; Postfix
/// stops at 100.
pub const MAX_PAIRS: usize = 16_000_000;

/// Edges by node: one list of targets after the other.
pub struct Graph(Rows<u32>);

impl Graph {
    pub fn with_capacity(nodes: usize) -> Self {
        Self(Rows::with_capacity(nodes, 0))
    }

    /// Adds the next node with the nodes it names.
    pub fn push(&mut self, targets: &[u32]) {
        self.0.items.extend_from_slice(targets);
        self.0.close();
    }

    fn of(&self, node: u32) -> &[u32] {
        self.0.row(node)
    }

    fn nodes(&self) -> usize {
        self.0.rows()
    }
}

/// Rows of numbers in one allocation.
pub struct Rows<T> {
    /// All rows, one after the other; what is added here belongs to the present one.
    pub items: Vec<T>,
    /// Where each row ends; a row begins where the one before it ends.
    ends: Vec<u32>,
}

impl<T> Rows<T> {
    pub fn with_capacity(rows: usize, items: usize) -> Self {
        Self { items: Vec::with_capacity(items), ends: Vec::with_capacity(rows) }
    }

    /// Ends the present row.
    pub fn close(&mut self) {
        // In u32: at most four mailboxes or one edge for each value, of which a source has twenty million.
        self.ends.push(u32::try_from(self.items.len()).unwrap_or(u32::MAX));
    }

    pub fn row(&self, row: u32) -> &[T] {
        let row = row as usize;
        let start =
            row.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        let end = self.ends.get(row).map_or(start, |end| *end as usize);
        self.items.get(start..end).unwrap_or_default()
    }

    const fn rows(&self) -> usize {
        self.ends.len()
    }
}

/// Strongly connected components: the entries of a cycle are one. Numbered so that whatever a component names
/// has a lower number.
pub struct Components {
    of: Vec<u32>,
    /// The nodes of each.
    members: Rows<u32>,
}

const UNSEEN: u32 = u32::MAX;

impl Components {
    /// Tarjan's algorithm with a stack of its own: a chain of aliases is as deep as its author likes.
    pub fn new(graph: &Graph) -> Self {
        let nodes = graph.nodes();
        let mut search = Search {
            graph,
            seen: vec![UNSEEN; nodes],
            low: vec![0; nodes],
            open: Vec::new(),
            path: Vec::new(),
            next: 0,
            found: Self { of: vec![UNSEEN; nodes], members: Rows::with_capacity(0, nodes) },
        };
        // From the entries that nobody names, so that the parts of a chain are numbered one after the other,
        // however the file orders them; then from what is left, which is cycles.
        let mut named = vec![false; nodes];
        for &target in &graph.0.items {
            named[target as usize] = true;
        }
        let heads = (0..).take(nodes).filter(|node| !named[*node as usize]);
        for node in heads.chain((0..).take(nodes)) {
            if search.seen[node as usize] == UNSEEN {
                search.from(node);
            }
        }
        search.found
    }

    pub fn of(&self, node: u32) -> u32 {
        self.of.get(node as usize).copied().unwrap_or(UNSEEN)
    }

    pub const fn count(&self) -> usize {
        self.members.rows()
    }
}

/// Every index below is a node of the graph, and every table has as many places as the graph has nodes.
struct Search<'g> {
    graph: &'g Graph,
    /// When each node was seen first.
    seen: Vec<u32>,
    /// The earliest open node that can be reached from each.
    low: Vec<u32>,
    /// Nodes that are in no component yet.
    open: Vec<u32>,
    /// The way from the root: node, and how many of its edges have been taken.
    path: Vec<(u32, usize)>,
    next: u32,
    found: Components,
}

impl Search<'_> {
    fn from(&mut self, root: u32) {
        self.enter(root);
        while let Some((node, taken)) = self.path.last_mut() {
            let node = *node;
            if let Some(&target) = self.graph.of(node).get(*taken) {
                *taken += 1;
                if self.seen[target as usize] == UNSEEN {
                    self.enter(target);
                } else if self.found.of[target as usize] == UNSEEN {
                    self.low[node as usize] = self.low[node as usize].min(self.seen[target as usize]);
                }
            } else {
                self.leave(node);
            }
        }
    }

    fn enter(&mut self, node: u32) {
        self.seen[node as usize] = self.next;
        self.low[node as usize] = self.next;
        self.next += 1;
        self.open.push(node);
        self.path.push((node, 0));
    }

    fn leave(&mut self, node: u32) {
        self.path.pop();
        let low = self.low[node as usize];
        if let Some((parent, _)) = self.path.last() {
            self.low[*parent as usize] = self.low[*parent as usize].min(low);
        }
        if low != self.seen[node as usize] {
            return;
        }
        let component = u32::try_from(self.found.members.rows()).unwrap_or(UNSEEN);
        while let Some(member) = self.open.pop() {
            self.found.of[member as usize] = component;
            self.found.members.items.push(member);
            if member == node {
                break;
            }
        }
        self.found.members.close();
    }
}

/// For every component the ones below it, at any depth.
pub struct Closures(Rows<u32>);

impl Closures {
    /// # Errors
    ///
    /// If there are more than [`MAX_PAIRS`].
    pub fn new(graph: &Graph, components: &Components) -> Result<Self, TooTangled> {
        let count = components.count();
        let mut rows = Rows::with_capacity(count, 0);
        // The component that reached each of them last.
        let mut reached_by = vec![UNSEEN; count];
        let mut below = Vec::new();
        let mut row = Vec::new();
        for component in (0..).take(count) {
            below.clear();
            row.clear();
            for &member in components.members.row(component) {
                below.extend(graph.of(member).iter().map(|target| components.of(*target)));
            }
            // The latest first: what is below it need not be looked at again.
            below.sort_unstable_by(|left, right| right.cmp(left));
            below.dedup();
            for &child in below.iter().filter(|child| **child != component) {
                if reached_by[child as usize] == component {
                    continue;
                }
                for &reached in rows.row(child).iter().chain([&child]) {
                    if reached_by[reached as usize] != component {
                        reached_by[reached as usize] = component;
                        row.push(reached);
                    }
                }
            }
            row.sort_unstable();
            if rows.items.len() + row.len() > MAX_PAIRS {
                return Err(TooTangled::Nesting);
            }
            rows.items.extend_from_slice(&row);
            rows.close();
        }
        Ok(Self(rows))
    }

    /// The components below `component`, in ascending order; never itself.
    pub fn of(&self, component: u32) -> &[u32] {
        self.0.row(component)
    }
}
