// AWS KMS for tests: local-kms, whose own program listens at every address of a machine, on 127.0.0.1 alone.
//
//	local-kms PORT FOLDER ACCOUNT REGION
package main

import (
	"log"
	"net"
	"net/http"
	"os"

	"github.com/nsmithuk/local-kms/src"
	"github.com/nsmithuk/local-kms/src/config"
	"github.com/nsmithuk/local-kms/src/data"
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("call it as: local-kms PORT FOLDER ACCOUNT REGION")
	}
	config.DatabasePath, config.AWSAccountId, config.AWSRegion = os.Args[2], os.Args[3], os.Args[4]
	keys := data.NewDatabase(config.DatabasePath)
	defer keys.Close()
	handler := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		src.HandleRequest(answer, request, keys)
	})
	log.Fatal(http.ListenAndServe(net.JoinHostPort("127.0.0.1", os.Args[1]), handler))
}
