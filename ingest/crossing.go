package ingest

import (
	"encoding/binary"
	"errors"

	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// What crosses the pipe to a taster and back is written field by field: with a
// codec that reflects, crossing would cost more than most decoding does. Both
// ends are of one binary, so there is no version.

func putText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func putInt(b []byte, n int64) []byte { return binary.AppendVarint(b, n) }

// errCrossing says that what came over the pipe was not written by the other
// end: a taster that is not itself any more.
var errCrossing = errors.New("no answer of a taster")

// crossing reads what the put functions wrote.
type crossing struct {
	b   []byte
	bad bool
}

func (c *crossing) bytes() []byte {
	n, size := binary.Uvarint(c.b)
	if size <= 0 || n > uint64(len(c.b)-size) {
		c.bad, c.b = true, nil
		return nil
	}
	s := c.b[size : size+int(n)]
	c.b = c.b[size+int(n):]
	return s
}

func (c *crossing) text() string { return string(c.bytes()) }

func (c *crossing) int() int64 {
	n, size := binary.Varint(c.b)
	if size <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[size:]
	return n
}

// count reads a number of things of at least one byte each.
func (c *crossing) count() int {
	n := c.int()
	if n < 0 || n > int64(len(c.b)) {
		c.bad, c.b = true, nil
		return 0
	}
	return int(n)
}

// put writes a question.
func (q *sip) put(b []byte) []byte {
	r := &q.Request
	for _, s := range [...]string{q.Protocol, q.Target, r.Method, r.App, r.Key, r.Peer} {
		b = putText(b, s)
	}
	b = putInt(putInt(putInt(b, r.Now), int64(r.Tenancy)), int64(len(r.Header)))
	for k, v := range r.Header {
		b = putText(putText(b, k), v)
	}
	return append(b, r.Body...)
}

// readSip reads a question. Its body is a part of b.
func readSip(b []byte) (q sip, err error) {
	c := crossing{b: b}
	r := &q.Request
	for _, s := range [...]*string{&q.Protocol, &q.Target, &r.Method, &r.App, &r.Key, &r.Peer} {
		*s = c.text()
	}
	r.Now, r.Tenancy = c.int(), event.Tenancy(c.int())
	n := c.count()
	r.Header = make(map[string]string, n)
	for range n {
		k := c.text()
		r.Header[k] = c.text()
	}
	if c.bad {
		return q, errCrossing
	}
	r.Body = c.b
	return q, nil
}

// put writes an answer.
func (a *swallowed) put(b []byte) []byte {
	if f := a.Refusal; f != nil {
		b = putInt(b, int64(f.Status))
		for _, s := range [...]string{string(f.Reason), f.Field, f.Value, f.Want} {
			b = putText(b, s)
		}
		return b
	}
	b = putInt(b, 0)
	b = batch.AppendBeacons(b, a.Result.Beacons)
	b = putInt(b, int64(len(a.Result.Rejected)))
	for i := range a.Result.Rejected {
		r := &a.Result.Rejected[i]
		b = putInt(b, int64(r.Index))
		for _, s := range [...]string{string(r.Reason), r.Field, r.Value, r.Want} {
			b = putText(b, s)
		}
	}
	b = putInt(b, int64(len(a.Result.Ignored)))
	for item, n := range a.Result.Ignored {
		b = putInt(putText(b, item), int64(n))
	}
	b = putInt(b, int64(len(a.Result.Drops)))
	for _, d := range a.Result.Drops {
		b = putInt(putText(b, d.Cause), d.Count)
	}
	return b
}

// readSwallowed reads an answer.
func readSwallowed(b []byte) (a swallowed, err error) {
	c := crossing{b: b}
	if status := c.int(); status != 0 || c.bad {
		a.Refusal = &spat{Status: int(status), Reason: event.Reason(c.text()), Field: c.text(), Value: c.text(), Want: c.text()}
		if c.bad {
			return a, errCrossing
		}
		return a, nil
	}
	if a.Result.Beacons, c.b, err = batch.ReadBeacons(c.b); err != nil {
		return a, errors.Join(errCrossing, err)
	}
	for range c.count() {
		a.Result.Rejected = append(a.Result.Rejected, dialect.Rejection{Index: int(c.int()), Reason: event.Reason(c.text()), Field: c.text(), Value: c.text(), Want: c.text()})
	}
	if n := c.count(); n > 0 {
		a.Result.Ignored = make(map[string]int, n)
		for range n {
			item := c.text()
			a.Result.Ignored[item] = int(c.int())
		}
	}
	for range c.count() {
		a.Result.Drops = append(a.Result.Drops, event.Dropped{Cause: c.text(), Count: c.int()})
	}
	if c.bad || len(c.b) > 0 {
		return a, errCrossing
	}
	return a, nil
}
