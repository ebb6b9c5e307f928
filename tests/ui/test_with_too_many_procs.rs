#[raddle::test(procs = 1025)]
fn case() {}

fn main() {}
