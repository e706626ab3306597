package segment

import (
	"fmt"

	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/klauspost/compress/zstd"
)

// codec compresses pages with one encoder. Arrow v17 makes a new one for each
// page, whose tables are megabytes to allocate and clear: a fifth of what
// writing a segment costs.
type codec struct {
	compress.Codec // what pages do not need
	enc            *zstd.Encoder
}

func init() {
	compress.RegisterCodec(compress.Codecs.Zstd, newCodec())
}

func newCodec() codec {
	enc, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		panic(fmt.Sprintf("BUG: options of zstd: %v", err))
	}
	was, err := compress.GetCodec(compress.Codecs.Zstd)
	if err != nil {
		panic(fmt.Sprintf("BUG: no codec: %v", err))
	}
	return codec{was, enc}
}

// EncodeLevel compresses a page. The level is the one level that segments are
// written with.
func (c codec) EncodeLevel(dst, src []byte, _ int) []byte { return c.enc.EncodeAll(src, dst[:0]) }

// Encode compresses a page.
func (c codec) Encode(dst, src []byte) []byte { return c.enc.EncodeAll(src, dst[:0]) }
