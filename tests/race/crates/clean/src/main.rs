//! Programs over rayon, crossbeam, parking_lot, tokio and dashmap: `race-clean NAME` runs one, `race-clean` alone lists them.
//! None of them has a data race.

mod crossbeam_cases;
mod dashmap_cases;
mod parking_lot_cases;
mod rayon_cases;
mod tokio_cases;

/// A name, and what it runs.
type Case = (&'static str, fn());

fn main() {
    let all: Vec<Case> = [
        crossbeam_cases::ALL,
        dashmap_cases::ALL,
        parking_lot_cases::ALL,
        rayon_cases::ALL,
        tokio_cases::ALL,
    ]
    .concat();
    let Some(wanted) = std::env::args().nth(1) else {
        all.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let Some((_, case)) = all.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("no case `{wanted}`; without an argument all are listed");
        std::process::exit(2);
    };
    case();
}
