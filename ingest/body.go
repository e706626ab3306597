package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/ingest/beacon"
	"serin.dev/serin/ingest/dialect"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// work is what one request needs until it is answered.
type work struct {
	raw    unpacker // of what net/http reads
	answer answer
	grant  *tenant.Grant
	head   head
	visit  visit
	spent  func()      // is called when the body is no longer needed; nil where nobody wants to know
	fields []textField // of a foreign request in the lane
	target url.URL     // likewise
}

// done says that the body of a request is in a group.
func (wk *work) done() {
	if wk.spent != nil {
		wk.spent()
	}
}

// decoding is what one request needs until its beacon is in a group. There are
// as many as decode at once, and not as many as wait for the journal: what a
// decoder has learnt of names stays in the processor's cache.
type decoding struct {
	dec    beacon.Decoder
	beacon event.Beacon
	memory dialect.Memory // of foreign bodies
	unpack unpacker
	known  []byte // the kind of the body, which familiar is asked for; empty where it cannot be told
	packed []byte // the kind of its encoding
	memo   admit.Memo
}

// unpacker reads bodies.
type unpacker struct {
	body []byte
	gz   *gzip.Reader
	wire bytes.Reader
}

// media refuses content types other than those that are allowed, which have text/plain
// among them, and texts in another charset than UTF-8, since nothing here reads one; a
// request without a content type is taken.
func media(ct string, allowed ...string) *refusal {
	if ct == "" || len(allowed) == 0 || ct == "text/plain;charset=UTF-8" || slices.Contains(allowed, ct) { // the former is what browsers send
		return nil
	}
	mt, params, err := mime.ParseMediaType(ct)
	charset := params["charset"]
	if err != nil || !slices.Contains(allowed, mt) || charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8") {
		return &refusal{http.StatusUnsupportedMediaType, event.ReasonEncoding, "Content-Type", ct, strings.Join(allowed, " or ") + ", in UTF-8"}
	}
	return nil
}

// tooLarge refuses a body by what its header promises.
func tooLarge(length int64) *refusal {
	return &refusal{http.StatusRequestEntityTooLarge, event.ReasonSize, "Content-Length", fmt.Sprint(length), fmt.Sprintf("at most %d bytes", event.MaxBody)}
}

// inflate returns a body that is wholly in memory as it was before its
// encoding; what it returns is the argument itself or in u.body.
func (u *unpacker) inflate(body []byte, encoding string) ([]byte, *refusal) {
	if encoding == "" || encoding == "identity" {
		return body, nil
	}
	u.wire.Reset(body)
	f := u.read(&u.wire, int64(len(body)), encoding)
	return u.body, f
}

// read reads a body into u.body, inflated, within the limits. length is what
// its header says, -1 where it says nothing.
func (u *unpacker) read(from io.Reader, length int64, encoding string) *refusal {
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
		if u.gz == nil {
			u.gz, err = gzip.NewReader(wire)
		} else {
			err = u.gz.Reset(wire)
		}
		if err != nil {
			u.gz = nil
			return &refusal{http.StatusBadRequest, event.ReasonEncoding, "Content-Encoding", "gzip", "a body that is gzip"}
		}
		src = u.gz
	default:
		return &refusal{http.StatusUnsupportedMediaType, event.ReasonEncoding, "Content-Encoding", enc, "none, gzip or deflate"}
	}
	u.body = u.body[:0]
	for {
		if len(u.body) == cap(u.body) {
			u.body = append(u.body, 0)[:len(u.body)]
		}
		n, err := src.Read(u.body[len(u.body):cap(u.body)])
		u.body = u.body[:len(u.body)+n]
		size := len(u.body)
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
