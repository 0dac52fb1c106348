"""The networks of the coverage table: the smallest member of each family, at the smallest input that it takes.

`MAIN` is the list that the library is developed with. `HELD_OUT` has other families and variants, which nobody looks at
while the search for groups is written; its row of counts tells how networks fare that nobody has tuned for.
"""

import timm
import torchvision
from torch import nn


def _entries(text: str) -> list[str]:
    return text.split()


# name@pixels of the square input; names without a prefix are timm's
MAIN = _entries("""
torchvision.alexnet@64 torchvision.convnext_tiny@64 torchvision.densenet121@64 torchvision.efficientnet_b0@64
torchvision.efficientnet_v2_s@64 torchvision.googlenet@64 torchvision.inception_v3@96 torchvision.maxvit_t@224
torchvision.mnasnet0_5@64 torchvision.mobilenet_v2@64 torchvision.mobilenet_v3_small@64
torchvision.mobilenet_v3_large@64 torchvision.regnet_x_400mf@64 torchvision.regnet_y_400mf@64 torchvision.resnet18@64
torchvision.resnet50@64 torchvision.resnext50_32x4d@64 torchvision.shufflenet_v2_x0_5@64 torchvision.squeezenet1_1@64
torchvision.swin_t@64 torchvision.swin_v2_t@64 torchvision.vgg11_bn@64 torchvision.vit_b_32@224
torchvision.wide_resnet50_2@64 resnet10t@64 resnet26d@64 resnext26ts@64 seresnet18@64 seresnext26t_32x4d@64
ecaresnet26t@64 resnetblur18@64 resnetv2_18@64 resnetv2_50x1_bit@64 gcresnet33ts@64 skresnet18@64 resnest14d@64
res2net50_14w_8s@64 tresnet_m@64 legacy_seresnet18@64 regnetx_002@64 regnety_002@64 regnetz_b16@64 nf_regnet_b0@64
gernet_s@64 darknet17@64 cs3darknet_s@64 dla46_c@64 dpn48b@64 hrnet_w18_small@64 densenetblur121d@64
ese_vovnet19b_slim@64 hgnetv2_b0@64 rexnet_100@64 selecsls42@64 xception41p@64 repvgg_a0@64 mobileone_s0@64
convmixer_768_32@64 efficientnet_lite0@64 tf_efficientnet_b0@64 efficientnetv2_rw_t@64 mixnet_s@64 fbnetc_100@64
mnasnet_small@64 mobilenetv2_035@64 mobilenetv3_small_050@64 mobilenetv4_conv_small_035@64
mobilenetv4_hybrid_medium@64 lcnet_035@64 hardcorenas_a@64 ghostnet_050@64 repghostnet_050@64 convnext_atto@64
convnextv2_atto@64 edgenext_xx_small@64 inception_next_atto@64 mambaout_femto@64 fasternet_t0@64 starnet_s050@64
repvit_m0_9@64 vit_tiny_patch16_224@64 vit_relpos_small_patch16_224@64 deit_tiny_distilled_patch16_224@64
deit3_small_patch16_224@64 beit_base_patch16_224@64 eva02_tiny_patch14_224@56 cait_xxs24_224@64 mixer_s32_224@64
resmlp_12_224@64 swin_tiny_patch4_window7_224@224 swinv2_tiny_window8_256@256 maxvit_pico_rw_256@256
coatnet_pico_rw_224@224 mvitv2_tiny@64 pvt_v2_b0@64 levit_128s@224 efficientformer_l1@224 efficientformerv2_s0@224
efficientvit_b0@64 efficientvit_m0@224 fastvit_t8@64 hiera_tiny_224@64 poolformer_s12@64 caformer_s18@64
mobilevit_xxs@64 mobilevitv2_050@64 xcit_nano_12_p16_224@64 pit_ti_224@64 tiny_vit_5m_224@224 twins_svt_small@224
convit_tiny@64 crossvit_9_240@240 visformer_tiny@64 davit_tiny@64 swiftformer_xs@224
""")

HELD_OUT = _entries("""
torchvision.squeezenet1_0@64 torchvision.mnasnet0_75@64 torchvision.shufflenet_v2_x1_0@64 torchvision.densenet169@64
torchvision.regnet_y_800mf@64 torchvision.resnet34@64 torchvision.vgg13@64 torchvision.convnext_small@64 resnet14t@64
resnet50d@64 seresnext26ts@64 eca_resnext26ts@64 gcresnext26ts@64 bat_resnext26ts@256 skresnext50_32x4d@64
resnetv2_50d_gn@64 resnetv2_50d_evos@64 nf_resnet26@64 nf_ecaresnet26@64 resnet32ts@64 res2next50@64 dla60x_c@64
cspresnext50@64 vovnet39a@64 inception_v4@96 legacy_xception@96 botnet26t_256@256 halonet26t@256 lambda_resnet26t@256
efficientnet_es@64 tf_efficientnetv2_b0@64 tf_mixnet_s@64 spnasnet_100@64 semnasnet_050@64 mobilenetv4_conv_medium@64
mobilenetv1_100@64 tinynet_e@64 regnetv_040@64 rexnetr_100@64 ghostnetv2_100@64 ghostnetv3_050@64 lcnetv2_small@64
cspnext_tiny@64 hgnet_tiny@64 shvit_s1@64 test_efficientnet_gn@64 convnext_zepto_rms@64 convnext_atto_ols@64
rdnet_tiny@64 focalnet_tiny_srf@64 poolformerv2_s12@64 convformer_s18@64 vit_tiny_r_s16_p8_224@64
vit_xsmall_patch16_clip_224@64 vit_srelpos_small_patch16_224@64 test_vit3@64 vit_tiny_patch16_dinov3_qkvb@64
eva02_small_patch14_224@56 gmlp_ti16_224@64 gmixer_12_224@64 swin_s3_tiny_224@224 swinv2_cr_tiny_224@224
maxxvit_rmlp_nano_rw_256@256 coatnext_nano_rw_224@224 gcvit_xxtiny@224 nest_tiny@224 coat_lite_tiny@64
sequencer2d_s@64 tnt_s_patch16_224@64 volo_d1_224@224 vitamin_small_224@64 twins_pcpvt_small@64 mobilevit_xs@64
iformer_t@224 nextvit_small@64 levit_conv_128s@224 fastvit_sa12@64 pvt_v2_b2_li@64 efficientvim_m1@224 lowformer_b0@64
""")


def build(entry: str) -> tuple[nn.Module, int]:
    """Returns a network with random weights and 1000 classes, in eval mode, and the pixels of its square input.

    Args:
        entry: an entry of the lists, e.g. "resnet10t@64".
    """
    name, _, pixels = entry.partition("@")
    if name.startswith("torchvision."):
        name = name.removeprefix("torchvision.")
        # the auxiliary classifiers run in training alone, and need maps of 299 pixels
        plain = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
        network = torchvision.models.get_model(name, weights=None, **plain)
    else:
        config = timm.get_pretrained_cfg(name)
        resized = config and config.fixed_input_size and config.input_size[-1] != int(pixels)
        network = timm.create_model(name, num_classes=1000, **({"img_size": int(pixels)} if resized else {}))
    return network.eval(), int(pixels)
