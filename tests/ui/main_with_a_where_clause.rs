#[raddle::main]
fn main()
where
    u32: Copy,
{
}
