// Package jqexpr evaluates a jq expression of a configuration within limits: a
// second, and 64 MiB beyond what the program itself needs.
//
// Nothing inside a process can hold an expression to that: one instruction of
// gojq, "x" * 1e9, allocates a gigabyte before anybody may look. So a bound of
// what an expression can cost, computed from it and from the size of its input,
// decides. What is small for sure is evaluated in the process, which takes
// microseconds; all else in a child process of the same binary, which has the
// limits and can be killed. A program that evaluates expressions must therefore
// begin with [Child].
package jqexpr
