//! Owns the question which programs of a workspace are plain: they do not have Raddle, and with it the detector, among their dependencies.
//!
//! A program is known by its main source file, which is what a call of rustc names as well. What is not listed here may still be linked without
//! Raddle, if it does not name it: that shows when it is linked (`wrapper`).

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, PackageId, Target, TargetKind};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The package that has the entry points which instrumented code calls.
const DETECTOR: &str = "raddle-race";

/// The programs of a workspace that need the detector linked to them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlainPrograms {
    /// Compiled as they are: binaries, examples, C libraries, tests without a harness.
    programs: Vec<PathBuf>,
    /// Compiled as tests, which may have more dependencies.
    tests: Vec<PathBuf>,
}

impl PlainPrograms {
    /// Looks through the workspace's own packages.
    pub(crate) fn find(metadata: &Metadata) -> Self {
        let mut plain = Self::default();
        for package in metadata.workspace_packages() {
            let in_program = reaches_detector(metadata, &package.id, false);
            let in_test = in_program || reaches_detector(metadata, &package.id, true);
            for target in package
                .targets
                .iter()
                .filter(|target| !is_host_only(target))
            {
                // Paths may lead through symbolic links; a compiler's current directory never does.
                let Ok(source) = fs::canonicalize(&target.src_path) else {
                    continue;
                };
                let for_development = target.is_example() || target.is_test() || target.is_bench();
                let covered = if for_development { in_test } else { in_program };
                if !covered {
                    plain.programs.push(source.clone());
                }
                if !in_test {
                    plain.tests.push(source);
                }
            }
        }
        plain
    }

    /// Is the program whose main file is `source` plain when compiled so?
    pub(crate) fn contains(&self, source: &Path, as_test: bool) -> bool {
        let list = if as_test { &self.tests } else { &self.programs };
        list.iter().any(|plain| plain == source)
    }
}

fn is_host_only(target: &Target) -> bool {
    let host_only = [TargetKind::ProcMacro, TargetKind::CustomBuild];
    target.kind.iter().any(|kind| host_only.contains(kind))
}

/// Does what `root` links contain the detector? `for_development`: dependencies of its tests and examples count as well.
fn reaches_detector(metadata: &Metadata, root: &PackageId, for_development: bool) -> bool {
    let Some(resolve) = &metadata.resolve else {
        return false;
    };
    let mut seen = HashSet::new();
    let mut to_visit = vec![root];
    while let Some(id) = to_visit.pop() {
        if !seen.insert(id) {
            continue;
        }
        let package = &metadata[id];
        if package.name.as_str() == DETECTOR {
            return true;
        }
        let is_macro = package.targets.iter().any(Target::is_proc_macro);
        let Some(node) = resolve
            .nodes
            .iter()
            .find(|node| node.id == *id && !is_macro)
        else {
            continue;
        };
        let linked = node.deps.iter().filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| match kind.kind {
                DependencyKind::Normal => true,
                DependencyKind::Development => for_development && id == root,
                _ => false,
            })
        });
        to_visit.extend(linked.map(|dependency| &dependency.pkg));
    }
    false
}
