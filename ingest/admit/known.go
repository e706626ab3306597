package admit

import (
	"sync"
	"sync/atomic"
)

// known is a set of at most limit texts, by hash, and of any number of pinned
// ones. Looking up takes no lock; only a text that is new does. Its memory is
// in proportion to what it holds, at most 64 bytes for each text.
type known struct {
	limit int
	table atomic.Pointer[table]

	mu        sync.Mutex // of all that follows, and of whoever adds to table or replaces it
	n         int        // without the pinned ones
	pinned    int
	share     int             // how many one network may bring in this window
	byNetwork [networks]int32 // and has brought
}

// networks is into how many the clients are sorted, by the hash of their
// prefix, to bound what one of them brings.
const networks = 64

// table is open addressing with linear probing, at most half full. A slot is 56
// bits of hash and a mark; 0 is free. 56 bits: two of 2,000 texts are taken for
// one another with a probability of 2,000²/2⁵⁷, about 3·10⁻¹¹.
type table struct {
	slots []atomic.Uint64
	more  []*known // texts that belong to a text: of a set of keys, the values of each
}

// Marks say when a text was in use: in which window, from 1 to 255, or always.
const (
	markPinned = 0
	markBits   = 8
	markMask   = 1<<markBits - 1
)

// hashOf is what a slot keeps of a hash; never 0, which is a free slot's.
func hashOf(h uint64) uint64 { return h>>markBits | 1 }

func newKnown(limit int) *known {
	k := &known{limit: limit, share: max(limit/2, 1)}
	k.table.Store(&table{slots: make([]atomic.Uint64, 16)})
	return k
}

// find reports whether a text is known, and marks it as in use; it returns
// what belongs to it.
func (k *known) find(h uint64, mark uint64) (more *known, ok bool) {
	t := k.table.Load()
	mask := uint64(len(t.slots) - 1)
	h = hashOf(h)
	for i := (h >> 1) & mask; ; i = (i + 1) & mask {
		s := t.slots[i].Load()
		if s == 0 {
			return nil, false
		}
		if s>>markBits != h {
			continue
		}
		if was := s & markMask; was != mark && was != markPinned {
			// Whoever else wins the race has marked it too, or pinned it.
			t.slots[i].CompareAndSwap(s, h<<markBits|mark)
		}
		if t.more != nil {
			more = t.more[i]
		}
		return more, true
	}
}

// add makes a text known where there is room: in the set, and in the half of
// what was free when the window began, which is all that one network may fill:
// nobody can keep all others from bringing something new. It reports whether
// the text is known now.
func (k *known) add(h, mark uint64, network int, make func() *known) (*known, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if more, ok := k.find(h, mark); ok { // meanwhile
		return more, true
	}
	if k.n >= k.limit || int(k.byNetwork[network]) >= k.share {
		return nil, false
	}
	k.n++
	k.byNetwork[network]++
	return k.put(h, mark, make), true
}

// put adds a text that is not there. The caller holds mu.
func (k *known) put(h, mark uint64, make func() *known) *known {
	t := k.table.Load()
	if 2*(k.n+k.pinned) > len(t.slots) {
		t = t.resized(k.n+k.pinned, func(uint64) bool { return true })
		k.table.Store(t)
	}
	var more *known
	if make != nil {
		more = make()
	}
	t.insert(hashOf(h)<<markBits|mark, more)
	return more
}

// insert puts a slot's content into a table that has room. What belongs to it
// is there before whoever finds it looks.
func (t *table) insert(s uint64, more *known) {
	mask := uint64(len(t.slots) - 1)
	i := (s >> (markBits + 1)) & mask
	for t.slots[i].Load() != 0 {
		i = (i + 1) & mask
	}
	if t.more != nil {
		t.more[i] = more
	}
	t.slots[i].Store(s)
}

// resized returns a table for n texts with those that are to stay.
func (t *table) resized(n int, stay func(s uint64) bool) *table {
	size := 16
	for size < 4*n {
		size *= 2
	}
	out := &table{slots: make([]atomic.Uint64, size)}
	if t.more != nil {
		out.more = make([]*known, size)
	}
	for i := range t.slots {
		if s := t.slots[i].Load(); s != 0 && stay(s) {
			var more *known
			if t.more != nil {
				more = t.more[i]
			}
			out.insert(s, more)
		}
	}
	return out
}

// rotate begins a window: what was in use in the last one, whose mark is
// given, stays known through this one, and the rest is forgotten.
func (k *known) rotate(last, next uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	stay := func(s uint64) bool { m := s & markMask; return m == last || m == next || m == markPinned }
	old := k.table.Load()
	n := 0
	for i := range old.slots {
		if s := old.slots[i].Load(); s != 0 && stay(s) {
			n++
		}
	}
	t := old.resized(n, stay)
	k.n = n - k.pinned
	k.share = max((k.limit-k.n)/2, 1)
	clear(k.byNetwork[:])
	k.table.Store(t)
	for _, more := range t.more {
		if more != nil && more != unbounded {
			more.rotate(last, next)
		}
	}
}

// pin makes a text known for good, beyond the limit if need be; unpin makes it
// one among others, in use now.
func (k *known) pin(h, mark uint64, make func() *known) *known {
	k.mu.Lock()
	defer k.mu.Unlock()
	more, ok := k.find(h, mark)
	if !ok {
		k.pinned++
		return k.put(h, markPinned, make)
	}
	if k.remark(h, markPinned) {
		k.n--
		k.pinned++
	}
	return more
}

func (k *known) unpin(h, mark uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.remark(h, mark) {
		k.n++ // perhaps past the limit, until it is not in use
		k.pinned--
	}
}

// remark changes a text's mark and reports whether that changed whether it is
// pinned. The caller holds mu.
func (k *known) remark(h, mark uint64) bool {
	t := k.table.Load()
	mask := uint64(len(t.slots) - 1)
	h = hashOf(h)
	for i := (h >> 1) & mask; ; i = (i + 1) & mask {
		s := t.slots[i].Load()
		if s == 0 {
			return false
		}
		if s>>markBits != h {
			continue
		}
		for !t.slots[i].CompareAndSwap(s, h<<markBits|mark) {
			s = t.slots[i].Load() // a reader has marked it
		}
		return (s&markMask == markPinned) != (mark == markPinned)
	}
}

// bytes returns the memory of the tables.
func (k *known) bytes() int {
	t := k.table.Load()
	n := 8*len(t.slots) + 8*len(t.more)
	for _, more := range t.more {
		if more != nil {
			n += more.bytes()
		}
	}
	return n
}
