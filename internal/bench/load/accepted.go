package load

import (
	"bytes"

	"serin.dev/serin/internal/bench/wire"
)

// sum adds up the numbers that follow a key in a JSON text, which the server
// wrote without spaces.
func sum(text []byte, key string) (total int64, found bool) {
	for {
		i := bytes.Index(text, []byte(key))
		if i < 0 {
			return total, found
		}
		text = text[i+len(key):]
		total, found = total+leading(text), true
	}
}

// leading is the number that a text begins with, or 0.
func leading(text []byte) (n int64) {
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// taken returns how many of a body's events the server accepted and shed. A
// protocol whose answers do not say is taken at its word: a status of 200 is
// all of them, less those of a partial success in JSON.
func taken(a *wire.Answer, events int) (accepted, shed int64) {
	if a.Status < 200 || a.Status > 299 {
		return 0, 0
	}
	accepted, told := sum(a.Body, `"accepted":`)
	if told {
		shed, _ = sum(a.Body, `"shed":`)
		return accepted, shed
	}
	rejected, _ := sum(a.Body, `"rejectedLogRecords":"`)
	return int64(events) - rejected, 0
}
