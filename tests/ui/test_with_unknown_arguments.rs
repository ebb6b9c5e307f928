#[raddle::test(threads = 2)]
fn case() {}

fn main() {}
