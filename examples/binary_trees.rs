//! Binary trees of collected nodes: many small objects, most of them short-lived. The program of the Computer Language
//! Benchmarks Game, with a goroutine for each depth; the output is the same as that of the Go program.
//!
//!     cargo run --release --example binary_trees -- 16

use std::process::ExitCode;

use raddle::gc::Gc;

const MIN_DEPTH: u32 = 4;
/// Far more than any machine has memory for.
const MAX_DEPTH: u32 = 40;

/// A node; nothing but its children.
struct Tree(Option<[Gc<Tree>; 2]>);

impl Tree {
    /// A full tree.
    fn new(depth: u32) -> Gc<Tree> {
        let children = (depth > 0).then(|| [Tree::new(depth - 1), Tree::new(depth - 1)]);
        Gc::new(Tree(children))
    }

    /// Counts the nodes.
    fn check(&self) -> u64 {
        let children = self.0.iter().flatten();
        1 + children.map(|child| child.check()).sum::<u64>()
    }
}

#[raddle::main]
fn main() -> ExitCode {
    let depth = match raddle::args().nth(1).map(|arg| (arg.parse::<u32>(), arg)) {
        None => MIN_DEPTH + 2,
        Some((Ok(depth), _)) if depth <= MAX_DEPTH => depth.max(MIN_DEPTH + 2),
        Some((_, arg)) => {
            eprintln!(
                "binary_trees: {arg:?} is no depth: it must be a whole number from 0 to {MAX_DEPTH}"
            );
            return ExitCode::from(2);
        }
    };
    println!(
        "stretch tree of depth {}\t check: {}",
        depth + 1,
        check_one(depth + 1)
    );

    let long_lived = Tree::new(depth);
    let lines: Vec<_> = (MIN_DEPTH..=depth)
        .step_by(2)
        .map(|d| raddle::go(move || many(1 << (depth - d + MIN_DEPTH), d)))
        .collect();
    for line in lines {
        println!("{}", line.join().unwrap());
    }
    println!(
        "long lived tree of depth {depth}\t check: {}",
        long_lived.check()
    );
    ExitCode::SUCCESS
}

/// Makes a tree and counts its nodes. In a frame of its own: what is left of a tree in the frame of a function that goes on would
/// keep it alive, for the collector cannot tell it from a variable.
#[inline(never)]
fn check_one(depth: u32) -> u64 {
    Tree::new(depth).check()
}

/// Makes so many trees, one after the other.
fn many(trees: u64, depth: u32) -> String {
    let check: u64 = (0..trees).map(|_| check_one(depth)).sum();
    format!("{trees}\t trees of depth {depth}\t check: {check}")
}
