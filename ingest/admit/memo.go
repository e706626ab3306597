package admit

import (
	"unsafe"

	"serin.dev/serin/internal/tenant"
)

// Memo remembers which texts were found to be known, and which have nothing in
// them to be scrubbed, by where they are in memory: a decoder gives out one copy
// of what repeats, so most texts are told by a pointer and need neither a hash
// nor a look at their bytes. It is an aid of one decoder, and not safe for
// concurrent use. The zero Memo is ready.
type Memo struct {
	entries [memoEntries]memoEntry
	clean   [memoEntries]cleanEntry
}

const (
	memoEntries = 1 << 9
	// memoText is the longest text that is remembered. A memo keeps what it
	// remembers alive, and longer texts are mostly ids in a chunk with others.
	memoText = 64
)

// memoEntry says that a text is known in a set and has its mark. It holds the
// text, so that nothing else can come to stand where it stands.
type memoEntry struct {
	text string
	in   *known
	more *known
	mark uint64
}

// at returns the one entry where a text may be remembered; nil where there is
// no memo.
func (m *Memo) at(s string, in *known) *memoEntry {
	if m == nil {
		return nil
	}
	p := uint64(uintptr(unsafe.Pointer(unsafe.StringData(s)))) + uint64(uintptr(unsafe.Pointer(in)))
	return &m.entries[p*0x9e3779b97f4a7c15>>(64-9)] // Fibonacci hashing, by 2⁶⁴ and the golden ratio
}

// holds reports whether the very text was found in the set in this window.
func (e *memoEntry) holds(s string, in *known, mark uint64) bool {
	return e != nil && e.in == in && e.mark == mark && len(e.text) == len(s) && unsafe.StringData(e.text) == unsafe.StringData(s)
}

func (e *memoEntry) note(s string, in, more *known, mark uint64) {
	if e != nil && len(s) <= memoText {
		*e = memoEntry{s, in, more, mark}
	}
}

// cleanEntry says that a tenant's rules find nothing in a text.
type cleanEntry struct {
	text string
	by   *tenant.Scrub
}

// cleaned returns the one entry where a text may be remembered as clean, and
// whether it is; nil where there is no memo or the text is too long for one.
func (m *Memo) cleaned(s string, by *tenant.Scrub) (e *cleanEntry, ok bool) {
	if m == nil || len(s) > memoText {
		return nil, false
	}
	p := uint64(uintptr(unsafe.Pointer(unsafe.StringData(s))))
	e = &m.clean[p*0x9e3779b97f4a7c15>>(64-9)]
	return e, e.by == by && len(e.text) == len(s) && unsafe.StringData(e.text) == unsafe.StringData(s)
}
