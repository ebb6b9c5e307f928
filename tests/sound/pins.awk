# Looks at the machine code of tests/sound/borrows.rs: what `pin` passes to its asm block as the place of a handle is a slot of the
# function's frame (or memory elsewhere), and once it was passed no instruction writes to that slot. Exit status 1 if one does, or
# if the functions are not there.
#
#     awk -f tests/sound/pins.awk target/release/deps/sound-*.s

# The bytes that a store of this instruction writes; 0: it is no store.
function width(op, from) {
    if (op ~ /^(mov|xor|or|and|add|sub|inc|dec|neg|not|xchg|cmpxchg|set)/ && op !~ /^(movz|movs[bwl]|cmov)/) {
        if (op ~ /q$/ || from ~ /^%r[0-9a-ds][xip0-9]*$/) return 8
        if (op ~ /l$/) return 4
        if (op ~ /w$/) return 2
        if (op ~ /b$/ || op ~ /^set/) return 1
    }
    if (from ~ /^%ymm/) return 32
    if (op ~ /^v?mov(sd|lp[sd]|hp[sd]|q)$/) return 8
    if (op ~ /^v?movss$/) return 4
    if (from ~ /^%xmm/) return 16
    return 0
}

# `24(%rsp)` as an offset in the frame, from whichever register it is counted.
function slot(operand) {
    if (operand !~ /^-?[0-9]*\(%r[sb]p\)$/) return ""
    base = operand ~ /rsp/ ? "s" : "b"
    sub(/\(.*/, "", operand)
    return base ":" (operand + 0)
}

/^_.*borrows[0-9]+borrow_[a-z_]+17h/ {
    name = $1
    sub(/.*borrow_/, "borrow_", name); sub(/17h.*/, "", name)
    inside = 1; functions++
    delete lea; delete pinned
    is_replaced = name == "borrow_replaced"
}
/^\.Lfunc_end/ { inside = 0 }
!inside || $1 ~ /^\./ { next }

/^\t#APP/ { asm = 1; next }
/^\t#NO_APP/ { asm = 0; next }
asm && /^\t# r[a-z0-9]+/ {
    pins++
    at = lea["%" $2]
    if (at != "") { pinned[at] = 1; in_frame++ } else elsewhere++
    next
}

{
    op = $1
    text = $0
    sub(/^[ \t]*[a-z0-9]+[ \t]*/, "", text); sub(/[ \t]*#.*/, "", text)
    # The last operand is what is written; no operand of ours has a comma of its own.
    n = split(text, operands, /, /)
    to = operands[n]; from = operands[1]
    if (op == "leaq") { lea[to] = slot(from); next }
    if (op == "movq" && from == "%rsp") { lea[to] = "s:0"; next }
    if (to ~ /^%/) lea[to] = ""
    at = slot(to)
    if (at == "" || is_replaced || (bytes = width(op, from)) == 0) next
    split(at, where, ":")
    for (held in pinned) {
        split(held, place, ":")
        if (place[1] == where[1] && where[2] < place[2] + 8 && where[2] + bytes > place[2] + 0) {
            print name ": the place of a borrowed handle, " held ", is written: " $0
            bad = 1
        }
    }
}
END {
    if (functions < 30 || pins < functions || in_frame < 15) {
        print functions + 0 " functions with " pins + 0 " pins, " in_frame + 0 " of them in a frame: that is not the program"
        exit 1
    }
    if (bad) exit 1
    print functions " functions: " in_frame " handles stay in their frames, " elsewhere " in other places"
}
