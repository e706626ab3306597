package segment

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"serin.dev/serin/internal/store/batch"
)

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// same fails unless rows [lo, hi) of two batches are equal in all columns.
func same(t testing.TB, a *batch.Batch, alo int, b *batch.Batch, blo, n int) {
	t.Helper()
	for r := range n {
		x, y := alo+r, blo+r
		for c := batch.Column(0); c < batch.Position; c++ {
			if a.Text(c, x) != b.Text(c, y) {
				t.Fatalf("row %d: column %d: %q, want %q", x, c, b.Text(c, y), a.Text(c, x))
			}
		}
		av, aok := a.Value(x)
		bv, bok := b.Value(y)
		plain := func(b *batch.Batch, r int, v float64, ok bool) string {
			return fmt.Sprint(b.Position(r), b.Ordinal(r), b.Seq(r), b.Index(r), b.Time(r), b.Received(r), v, ok)
		}
		if p, q := plain(a, x, av, aok), plain(b, y, bv, bok); p != q {
			t.Fatalf("row %d: %s, want %s", x, q, p)
		}
	}
}

func TestBytesPerRow(t *testing.T) {
	s := open(t)
	r := rand.New(rand.NewPCG(1, 2))
	p := partition(t, "shop", "web", "2.4.1")
	pos := uint64(0)
	b := corpus(r, p, 100_000, &pos)
	if _, err := s.Write(context.Background(), 1, pos, []*batch.Batch{b}); err != nil {
		t.Fatal(err)
	}
	total, err := s.Total()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows, %d bytes, %.2f bytes/row", total.Rows, total.Bytes, float64(total.Bytes)/float64(total.Rows))
	n := 0
	err = s.Replay(context.Background(), p.Tenant, "web", func(got *batch.Batch, lo, hi int) error {
		same(t, b, n, got, lo, hi-lo)
		n += hi - lo
		return nil
	})
	if err != nil || n != b.Len() {
		t.Fatalf("%d rows of %d, %v", n, b.Len(), err)
	}
}
