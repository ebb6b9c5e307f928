#[raddle::main]
fn main<T: Copy>() {}
