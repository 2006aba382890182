// Package jqexpr evaluates a jq expression of a configuration within limits: a
// second of processor time, and 64 MiB beyond what the program itself needs.
//
// Time by the clock says nothing about an expression: where a container may
// have a tenth of a processor, half a millisecond of work may take a second.
//
// Nothing inside a process can hold an expression to its limits: one
// instruction of gojq, "x" * 1e9, allocates a gigabyte before anything else may
// look. So the limits are those of a child process of the same binary, which
// the kernel enforces. A program that evaluates expressions must therefore begin
// with [Child].
//
// Starting a child takes milliseconds, and nearly all expressions take
// microseconds. Those are evaluated in the process, where a meter counts what
// they do, and what they would make, and leaves them to a child once that is
// much. The meter needs to know what each function of gojq's costs, by its
// arguments; an expression with one that it does not know goes to a child at
// once. It replaces a calculus that bounded the cost of an expression before its
// evaluation, from its syntax: that could say nothing about def, reduce, and
// regular expressions, and was longer.
package jqexpr
