package load

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"serin.dev/serin/internal/bench/corpus"
)

// walk goes through the sessions of a corpus, over and over, each time under
// an id of its own, so that no beacon is a repetition: (session, seq) is what
// the server knows a beacon by.
type walk struct {
	bodies [][]corpus.Body
	rng    *rand.Rand
	at     int // session
	seq    int
	id     [corpus.SessionBytes]byte
}

func newWalk(bodies [][]corpus.Body, seed, stream uint64) *walk {
	w := &walk{bodies: bodies, rng: rand.New(rand.NewPCG(seed, stream))}
	w.begin()
	return w
}

func (w *walk) begin() {
	w.at, w.seq = w.rng.IntN(len(w.bodies)), 0
	var raw [corpus.SessionBytes / 2]byte
	binary.LittleEndian.PutUint64(raw[:], w.rng.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], w.rng.Uint64())
	hex.Encode(w.id[:], raw[:])
}

// next returns the next beacon, which belongs to the session w.id.
func (w *walk) next() *corpus.Body {
	if w.seq == len(w.bodies[w.at]) {
		w.begin()
	}
	b := &w.bodies[w.at][w.seq]
	w.seq++
	return b
}
