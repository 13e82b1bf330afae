"""The engine behind MLServer, by the Open Inference Protocol: its REST takes an image in base64."""

import numpy as np
from judging import Judging
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Model(MLModel):
    """Takes one image, gives a tensor of each figure."""

    async def load(self) -> bool:
        """Before the model is ready."""
        self._judging = Judging()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The verdict."""
        image = Base64Codec.decode_input(payload.inputs[0])[0]
        outputs = []
        for name, value in self._judging(image).items():
            codec = StringCodec if isinstance(value, str) else NumpyCodec
            content = [value] if isinstance(value, str) else np.array([value])
            outputs.append(codec.encode_output(name, content))
        return InferenceResponse(model_name=self.name, outputs=outputs)
