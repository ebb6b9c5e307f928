#[raddle::test(procs = 0)]
fn case() {}

fn main() {}
