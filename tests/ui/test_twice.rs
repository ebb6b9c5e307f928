#[raddle::test]
#[test]
fn case() {}

fn main() {}
