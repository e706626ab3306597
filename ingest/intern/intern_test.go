package intern

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"serin.dev/serin/internal/event"
)

// TestBounds brings names that are all different, as a client may that wants the
// server's memory.
func TestBounds(t *testing.T) {
	var m Memory
	for i := range 3 * maxInterned {
		name := strings.Repeat("n", i%100) + strconv.Itoa(i)
		if got := m.Known([]byte(name)); got != name {
			t.Fatalf("%q became %q", name, got)
		}
		size := 0
		if i%100 == 0 {
			for s := range m.table {
				size += len(s)
			}
			if size != m.bytes {
				t.Fatalf("the table has %d bytes and counts %d", size, m.bytes)
			}
		}
		if len(m.table) > maxInterned || m.bytes > maxInternedBytes {
			t.Fatalf("the table has %d entries of %d bytes", len(m.table), m.bytes)
		}
	}
	if unsafe.StringData(m.Known([]byte("shop-web"))) != unsafe.StringData(m.Known([]byte("shop-web"))) {
		t.Error("an app is made anew for each beacon")
	}
}

// TestKept reuses the bytes that texts were made of, as the edge does with the
// next request, and goes on for some chunks: what was given out stays.
func TestKept(t *testing.T) {
	var m Memory
	var texts, want []string
	var lists [][]event.Attr
	b := make([]byte, 0, 1024)
	for i := range 3000 {
		b = append(b[:0], strings.Repeat("x", i%700)...)
		b = strconv.AppendInt(b, int64(i), 10)
		want = append(want, string(b), string(b))
		texts = append(texts, m.Own(b), m.Known(b))
		from := m.Begin()
		for n := range i % 40 {
			from = m.Add(from, event.Attr{Num: true, Number: float64(i + n)})
		}
		if i%7 == 0 {
			m.Drop(from)
			lists = append(lists, nil)
		} else {
			lists = append(lists, m.Keep(from, 0))
		}
	}
	if !slices.Equal(texts, want) {
		t.Error("texts have changed")
	}
	for i, list := range lists {
		if i%7 != 0 && len(list) != i%40 {
			t.Fatalf("list %d has %d attributes, want %d", i, len(list), i%40)
		}
		for n, a := range list {
			if a.Number != float64(i+n) {
				t.Fatalf("attribute %d of list %d is %v, want %d", n, i, a.Number, i+n)
			}
		}
	}
	from := m.Begin()
	for n := range 3 {
		from = m.Add(from, event.Attr{Num: true, Number: float64(n)})
	}
	if got := m.Keep(from, 0b101); len(got) != 1 || got[0].Number != 1 {
		t.Errorf("without the first and the last of three: %v", got)
	}
}

// TestReuse has bodies of many attributes: after some of them none costs an allocation, and
// one that is far larger does not keep its room.
func TestReuse(t *testing.T) {
	var m Memory
	body := func(n int) {
		m.Reuse()
		for i := range n {
			from := m.Begin()
			from = m.Add(from, event.Attr{Key: "k", Num: true, Number: float64(i)})
			if list := m.Keep(from, 0); len(list) != 1 || list[0].Number != float64(i) {
				t.Fatalf("attribute %d is %v", i, list)
			}
		}
	}
	for range 10 {
		body(300)
	}
	if n := testing.AllocsPerRun(10, func() { body(300) }); n != 0 {
		t.Errorf("a body of 300 attributes takes %v allocations", n)
	}
	m.Reuse()
	from := m.Begin()
	for range 2 * maxAttrs {
		from = m.Add(from, event.Attr{Key: "k"})
	}
	m.Drop(from)
	if m.Reuse(); cap(m.attrs) > maxAttrs {
		t.Errorf("room for %d attributes is kept, want %d at most", cap(m.attrs), maxAttrs)
	}
}
