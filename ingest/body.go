package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"serin.dev/serin/ingest/beacon"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// work is the scratch of one request.
type work struct {
	dec    beacon.Decoder
	beacon event.Beacon
	body   []byte // inflated
	gz     *gzip.Reader
	wire   bytes.Reader
	answer answer
	grant  *tenant.Grant
	head   head
	visit  visit
	known  []byte // a key of familiar that is looked up
}

// media refuses content types other than those that are allowed; a request
// without one is taken.
func media(ct string, allowed ...string) *refusal {
	if ct == "" || len(allowed) == 0 || ct == "text/plain;charset=UTF-8" { // which is what browsers send
		return nil
	}
	mt, _, err := mime.ParseMediaType(ct)
	if err != nil || !slices.Contains(allowed, mt) {
		return &refusal{http.StatusUnsupportedMediaType, event.ReasonEncoding, "Content-Type", ct, strings.Join(allowed, " or ")}
	}
	return nil
}

// tooLarge refuses a body by what its header promises.
func tooLarge(length int64) *refusal {
	return &refusal{http.StatusRequestEntityTooLarge, event.ReasonSize, "Content-Length", fmt.Sprint(length), fmt.Sprintf("at most %d bytes", event.MaxBody)}
}

// inflate returns a body that is wholly in memory as it was before its
// encoding; what it returns is the argument itself or in wk.body.
func (wk *work) inflate(body []byte, encoding string) ([]byte, *refusal) {
	if encoding == "" || encoding == "identity" {
		return body, nil
	}
	wk.wire.Reset(body)
	f := wk.read(&wk.wire, int64(len(body)), encoding)
	return wk.body, f
}

// read reads a body into wk.body, inflated, within the limits. length is what
// its header says, -1 where it says nothing.
func (wk *work) read(from io.Reader, length int64, encoding string) *refusal {
	if length > event.MaxBody {
		return tooLarge(length)
	}
	wire := &counting{r: io.LimitReader(from, event.MaxBody+1)}
	var src io.Reader = wire
	packed := false
	switch enc := strings.ToLower(encoding); enc {
	case "", "identity":
	case "deflate":
		packed = true
		z, err := zlib.NewReader(wire)
		if err != nil {
			return &refusal{http.StatusBadRequest, event.ReasonEncoding, "Content-Encoding", "deflate", "a body that is zlib"}
		}
		defer z.Close()
		src = z
	case "gzip":
		packed = true
		var err error
		if wk.gz == nil {
			wk.gz, err = gzip.NewReader(wire)
		} else {
			err = wk.gz.Reset(wire)
		}
		if err != nil {
			wk.gz = nil
			return &refusal{http.StatusBadRequest, event.ReasonEncoding, "Content-Encoding", "gzip", "a body that is gzip"}
		}
		src = wk.gz
	default:
		return &refusal{http.StatusUnsupportedMediaType, event.ReasonEncoding, "Content-Encoding", enc, "none, gzip or deflate"}
	}
	wk.body = wk.body[:0]
	for {
		if len(wk.body) == cap(wk.body) {
			wk.body = append(wk.body, 0)[:len(wk.body)]
		}
		n, err := src.Read(wk.body[len(wk.body):cap(wk.body)])
		wk.body = wk.body[:len(wk.body)+n]
		size := len(wk.body)
		switch {
		case size > event.MaxBody || wire.n > event.MaxBody:
			return &refusal{http.StatusRequestEntityTooLarge, event.ReasonSize, "body", fmt.Sprintf("over %d bytes", event.MaxBody), fmt.Sprintf("at most %d bytes, inflated", event.MaxBody)}
		case packed && size > event.MaxSDKBody && size > event.MaxRatio*wire.n:
			return &refusal{http.StatusRequestEntityTooLarge, event.ReasonSize, "body", fmt.Sprintf("inflates %d times", size/max(wire.n, 1)), fmt.Sprintf("at most %d times", event.MaxRatio)}
		case err == io.EOF:
			return nil
		case err != nil && packed && !errors.Is(err, context.Canceled):
			return &refusal{http.StatusBadRequest, event.ReasonEncoding, "body", "broken", "a body that is whole and of its encoding"}
		case err != nil:
			return &refusal{http.StatusBadRequest, event.ReasonEncoding, "body", "ended early", "a whole body"}
		}
	}
}

// counting counts the bytes read.
type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
