//go:build tools

package main

import (
	_ "github.com/Shopify/toxiproxy/v2/cmd/server"
	_ "github.com/summerwind/h2spec/cmd/h2spec"
)
