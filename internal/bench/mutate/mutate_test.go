package mutate

import (
	"bytes"
	"encoding/json"
	"testing"
)

const good = `{"v":1,"session":"abcdefgh","seq":7,"ctx":{"page":"/a"},"events":[{"k":"vital","n":"LCP","t":1764000000000,"v":2310.5}]}`

// TestMutate checks that the same seed gives the same bodies, that every kind
// comes up and changes something, and that good bodies are not written to.
func TestMutate(t *testing.T) {
	a, b := New(1, 2), New(1, 2)
	body, other := []byte(good), []byte(`{"events":[1,2,3]}`)
	kinds, changed, valid := map[Kind]int{}, 0, 0
	const n = 2000
	for range n {
		x, kind, packed := a.Mutate(body, other)
		y, _, _ := b.Mutate(body, other)
		if !bytes.Equal(x, y) {
			t.Fatal("two mutators of one seed differ")
		}
		if len(x) > maxBody && !packed {
			t.Fatalf("%s: %d bytes, want at most %d", kind, len(x), maxBody)
		}
		if packed != (kind == Bomb) {
			t.Fatalf("%s: gzip %v", kind, packed)
		}
		kinds[kind]++
		if string(x) != good {
			changed++
		}
		if json.Valid(x) {
			valid++
		}
	}
	for k := range Kinds {
		if kinds[k] == 0 {
			t.Errorf("no body of kind %s", k)
		}
	}
	if changed < n*95/100 {
		t.Errorf("%d of %d bodies are changed", changed, n)
	}
	// A body that is no JSON at all is refused at once; what goes deeper must be
	// there too.
	if valid < n/20 || valid > n*9/10 {
		t.Errorf("%d of %d bodies are still JSON", valid, n)
	}
	if string(body) != good {
		t.Error("the body was written to")
	}
}

func TestMutateTakesAnything(t *testing.T) {
	m := New(3, 4)
	for _, body := range [][]byte{nil, {0}, []byte("\""), bytes.Repeat([]byte{0x0a, 0x10}, 100)} {
		for range 200 {
			m.Mutate(body, nil)
		}
	}
}
