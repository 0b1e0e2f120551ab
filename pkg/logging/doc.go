// Package logging makes the one logger of the program and the file that it may
// write to.
//
// The file is rotated by size: PATH is the current one, PATH.1 the one before,
// up to PATH.n; what is older is removed. Reopen, for SIGHUP, begins with a new
// file when something else has moved PATH away. A record is never divided
// between two files.
package logging
